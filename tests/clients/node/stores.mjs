// Which calls of @nats-io/jetstream, kv and obj a user's permissions allow; see ../README.md.

import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { Objm } from "@nats-io/obj";
import { connect } from "@nats-io/transport-node";

const TIMEOUT = 10_000;
const [url, user, pass, kind, name, made] = process.argv.slice(2);
const connection = await connect({ servers: url, user, pass, reconnect: false });
const results = {};
// The library leaves alone some of the promises of a call that has failed.
process.on("unhandledRejection", () => {});
let complaints = [];
let violated = () => {};
(async () => {
  for await (const status of connection.status()) {
    if (status.type !== "error") continue;
    complaints.push(String(status.error));
    violated();
  }
})();

async function attempt(what, call) {
  complaints = [];
  const refused = new Promise((resolve) => (violated = resolve));
  let timer;
  const late = new Promise((resolve) => (timer = setTimeout(resolve, TIMEOUT, "late")));
  const made = call().then((value) => ({ value }), (error) => ({ error }));
  const outcome = await Promise.race([made, refused, late]);
  clearTimeout(timer);
  // Whatever the server has to say of it comes before the answer to this.
  await connection.flush();
  await new Promise(setImmediate);
  if (complaints.length > 0) results[what] = complaints[0];
  else if (outcome === "late") results[what] = "no answer";
  else if (outcome.error) results[what] = String(outcome.error);
  else {
    results[what] = "yes";
    return outcome.value;
  }
}

async function all(iterator) {
  const found = [];
  for await (const value of await iterator) found.push(value);
  return found;
}

async function first(iterator) {
  for await (const value of await iterator) return value;
}

// By default it asks for the account's limits first, which no preset allows.
const options = made ? { timeout: TIMEOUT } : { timeout: TIMEOUT, checkAPI: false };
const js = jetstream(connection, options);

async function kv() {
  if (made) {
    await attempt("make", async () => {
      const store = await new Kvm(js).create(name, { history: 5 });
      await store.put("colour", "red");
      await store.put("gone", "grey");
      await store.delete("gone");
    });
  }
  const store = await attempt("open", () => new Kvm(js).open(name));
  await attempt("get", () => store.get("colour"));
  await attempt("get a revision", () => store.get("colour", { revision: 1 }));
  await attempt("keys", () => all(store.keys()));
  await attempt("history", () => all(store.history({ key: "colour" })));
  await attempt("watch", () => first(store.watch({ key: "colour" })));
  await attempt("status", () => store.status());
  const revision = await attempt("put", () => store.put("node", "1"));
  await attempt("update", () => store.update("node", "2", revision));
  await attempt("create", () => store.create("node-new", "1"));
  await attempt("delete", () => store.delete("node-new"));
  await attempt("create what was deleted", () => store.create("node-new", "2"));
  await attempt("purge", () => store.purge("node-new"));
  await attempt("purge what was deleted", () => store.purgeDeletes());
}

async function objects() {
  if (made) {
    await attempt("make", async () => {
      const store = await new Objm(js).create(name);
      await store.putBlob({ name: "logo" }, new TextEncoder().encode("hello"));
    });
  }
  const store = await attempt("open", () => new Objm(js).open(name));
  await attempt("info", () => store.info("logo"));
  await attempt("get", () => store.getBlob("logo"));
  await attempt("list", () => store.list());
  await attempt("watch", () => first(store.watch({ includeHistory: true })));
  await attempt("status", () => store.status());
  await attempt("put", () => store.putBlob({ name: "node" }, new Uint8Array(300_000)));
  await attempt("put again", () => store.putBlob({ name: "node" }, new Uint8Array(300_000)));
  await attempt("change what is said of it", () => store.update("node", { description: "two" }));
  await attempt("delete", async () => {
    if (!(await store.delete("node")).success) throw new Error("there is none");
  });
  await attempt("seal", () => store.seal());
}

async function stream() {
  const manager = await jetstreamManager(connection, options);
  if (made) await attempt("make", () => manager.streams.add({ name, subjects: [`${name}.>`] }));
  await attempt("look it up", () => manager.streams.info(name));
  await attempt("publish", () => js.publish(`${name}.new`, "1"));
  await attempt("publish at once", () => Promise.all([1, 2].map(() => js.publish(`${name}.new`, "2"))));
  await attempt("publish what is not in P", () => js.publish(`${name}.other.new`, "1"));
  await attempt("look up which stream a subject is in", () => manager.streams.find(`${name}.new`));
}

await { kv, objects, stream }[kind]();
console.log(JSON.stringify(results));
process.exit(0);
