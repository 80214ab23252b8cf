// What @nats-io/jetstream and @nats-io/kv do with what a preset allows; see ../README.md.

import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { connect } from "@nats-io/transport-node";

const [url, user, pass, action, ...names] = process.argv.slice(2);
const connection = await connect({ servers: url, user, pass, reconnect: false });
const violations = [];
const watching = (async () => {
  for await (const status of connection.status()) {
    if (status.type === "error") violations.push(String(status.error));
  }
})();

async function first(iterator) {
  for await (const value of iterator) return value;
}

async function consume(stream, consumer) {
  const js = jetstream(connection);
  // Otherwise it asks for the account's limits first, which no preset allows.
  const manager = await jetstreamManager(connection, { checkAPI: false });
  const made = consumer ?? "made-by-node";
  if (!consumer) {
    await manager.consumers.add(stream, { durable_name: made, ack_policy: AckPolicy.Explicit });
  }
  const bound = await js.consumers.get(stream, made);
  const message = await bound.next({ expires: 10_000 });
  if (!(await message.ackAck())) throw new Error("not acknowledged");
  const seen = { fetched: message.subject, ack_pending: (await bound.info()).num_ack_pending };
  if (!consumer) {
    await manager.consumers.delete(stream, made);
    const ordered = await js.consumers.get(stream);
    seen.ordered = (await ordered.next({ expires: 10_000 })).subject;
  }
  return seen;
}

async function read(bucket) {
  const store = await new Kvm(connection).open(bucket);
  const keys = [];
  for await (const key of await store.keys()) keys.push(key);
  let history = 0;
  for await (const _ of await store.history({ key: "colour" })) history += 1;
  const watched = await first(await store.watch({ key: "colour" }));
  return { get: (await store.get("colour")).string(), keys, history, watched: watched.string() };
}

async function write(bucket) {
  const store = await new Kvm(connection).open(bucket);
  const revision = await store.put("node", "1");
  await store.update("node", "2", revision);
  await store.create("node-new", "1");
  await store.delete("node-new");
  await store.purge("node-new");
  return { written: "node" };
}

const seen = await { consume, read, write }[action](...names);
await connection.flush();
await connection.close();
await watching;
console.log(JSON.stringify({ seen, violations }));
