// Stays connected at the library's defaults, and prints what becomes of that; see ../README.md.

import { wsconnect } from "@nats-io/nats-core";
import { connect } from "@nats-io/transport-node";
import { connect as connect2 } from "nats";
import WebSocket from "ws";

const PAUSE = 500;

// Node has one of its own from version 22 on.
globalThis.WebSocket ??= WebSocket;

const libraries = { "transport-node": connect, wsconnect, nats: connect2 };
const [library, servers, user, pass, subscribe, publish] = process.argv.slice(2);

function say(event, more = {}) {
  console.log(JSON.stringify({ event, ...more }));
}

const words = { disconnect: "disconnected", reconnect: "reconnected" };

async function statuses() {
  for await (const status of nc.status()) {
    if (words[status.type]) {
      say(words[status.type]);
    } else if (status.type === "error") {
      say("error", { text: String(status.error ?? status.data) });
    }
  }
}

let last, at;

async function listen() {
  for await (const message of nc.subscribe(subscribe)) {
    const [number, now] = [Number(message.string()), performance.now()];
    if (last !== undefined && number > last + 1) {
      say("gap", { missed: number - last - 1, ms: Math.round(now - at) });
    }
    [last, at] = [number, now];
  }
}

const nc = await libraries[library]({ servers, user, pass });
statuses();
listen();
await nc.flush();
say("connected");
let number = 0;
const ticks = setInterval(() => {
  number += 1;
  try {
    nc.publish(publish, String(number));
  } catch (error) {
    say("error", { text: `publish: ${error}` });
  }
  if (last !== undefined) say("seen", { number: last });
}, PAUSE);
const error = await nc.closed();
clearInterval(ticks);
if (error) say("error", { text: String(error) });
say("closed");
process.exit(0);
