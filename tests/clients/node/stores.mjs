// Which calls of @nats-io/kv and @nats-io/obj a user's permissions allow; see ../README.md.

import { jetstream } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { Objm } from "@nats-io/obj";
import { connect } from "@nats-io/transport-node";

const TIMEOUT = 10_000;
const [url, user, pass, kind, bucket] = process.argv.slice(2);
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

async function attempt(name, call) {
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
  if (complaints.length > 0) results[name] = complaints[0];
  else if (outcome === "late") results[name] = "no answer";
  else if (outcome.error) results[name] = String(outcome.error);
  else {
    results[name] = "yes";
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

// Otherwise it asks for the account's limits first, which no preset allows.
const js = jetstream(connection, { timeout: TIMEOUT, checkAPI: false });

async function kv() {
  const store = await attempt("open", () => new Kvm(js).open(bucket));
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
  const store = await attempt("open", () => new Objm(js).open(bucket));
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

await { kv, objects }[kind]();
console.log(JSON.stringify(results));
process.exit(0);
