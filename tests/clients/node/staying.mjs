// Stays connected at the library's defaults, and prints what becomes of that; see ../README.md.

import { setTimeout as sleep } from "node:timers/promises";

import { wsconnect } from "@nats-io/nats-core";
import { connect } from "@nats-io/transport-node";
import { connect as connect2 } from "nats";
import WebSocket from "ws";

// Between two connections, and before a first one is tried again.
const BETWEEN = 20;
const AGAIN = 1000;

// Node has one of its own from version 22 on.
globalThis.WebSocket ??= WebSocket;

const libraries = { "transport-node": connect, wsconnect, nats: connect2 };
const [library, servers, user, pass, subscribe, publish, many = "1", seconds = "0.5"] =
  process.argv.slice(2);
const [count, pause] = [Number(many), Number(seconds) * 1000];

const words = { disconnect: "disconnected", reconnect: "reconnected" };

class Staying {
  constructor(connection) {
    this.connection = connection;
  }

  say(event, more = {}) {
    console.log(JSON.stringify({ event, connection: this.connection, ...more }));
  }

  async connect() {
    this.nc = await libraries[library]({ servers, user, pass });
  }

  async statuses() {
    for await (const status of this.nc.status()) {
      if (words[status.type]) {
        this.say(words[status.type]);
      } else if (status.type === "error") {
        this.say("error", { text: String(status.error ?? status.data) });
      }
    }
  }

  async listen() {
    let at;
    for await (const message of this.nc.subscribe(subscribe)) {
      const [number, now] = [Number(message.string()), performance.now()];
      if (this.last !== undefined && number > this.last + 1) {
        this.say("gap", { missed: number - this.last - 1, ms: Math.round(now - at) });
      }
      [this.last, at] = [number, now];
    }
  }

  // Until it is closed for good.
  async stay() {
    this.statuses();
    this.listen();
    await this.nc.flush().catch((error) => this.say("error", { text: `flush: ${error}` }));
    this.say("connected");
    let number = 0;
    const ticks = setInterval(() => {
      number += 1;
      try {
        this.nc.publish(publish, String(number));
      } catch (error) {
        this.say("error", { text: `publish: ${error}` });
      }
      if (this.last !== undefined) this.say("seen", { number: this.last });
    }, pause);
    const error = await this.nc.closed();
    clearInterval(ticks);
    if (error) this.say("error", { text: String(error) });
    this.say("closed");
  }
}

const all = [];
for (let connection = 0; connection < count; connection += 1) {
  const staying = new Staying(connection);
  for (;;) {
    try {
      await staying.connect();
      break;
    } catch (error) {
      if (count === 1) throw error;
      staying.say("error", { text: `at first: ${error}` });
      await sleep(AGAIN);
    }
  }
  all.push(staying.stay());
  await sleep(BETWEEN);
}
await Promise.all(all);
process.exit(0);
