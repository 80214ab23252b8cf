// What @nats-io/jetstream does on a connection; see ../README.md.

import { AckPolicy, jetstream, jetstreamManager, StorageType } from "@nats-io/jetstream";

export async function useJetstream(connection, { stream, consumer, store, create }) {
  if (create) {
    const manager = await jetstreamManager(connection);
    await manager.streams.add({ name: stream, subjects: [store], storage: StorageType.File });
    await manager.consumers.add(stream, {
      durable_name: consumer,
      ack_policy: AckPolicy.Explicit,
    });
  }
  const js = jetstream(connection);
  const acks = [];
  for (const text of ["first", "second"]) acks.push((await js.publish(store, text)).seq);

  const processor = await js.consumers.get(stream, consumer);
  const fetched = [];
  for await (const message of await processor.fetch({ max_messages: 2, expires: 5_000 })) {
    if (!(await message.ackAck())) throw new Error("not acknowledged");
    fetched.push(message.string());
  }
  const info = await processor.info();
  return { acks, fetched, pending: info.num_pending, ack_pending: info.num_ack_pending };
}
