"""What nats-py does with JetStream; see ../README.md."""

from nats.js.api import AckPolicy, ConsumerConfig, StorageType


async def use_jetstream(client, stream, consumer, subject, create) -> dict:
    js = client.jetstream()
    if create:
        await js.add_stream(name=stream, subjects=[subject], storage=StorageType.FILE)
        config = ConsumerConfig(durable_name=consumer, ack_policy=AckPolicy.EXPLICIT)
        await js.add_consumer(stream, config)
    acks = [(await js.publish(subject, text)).seq for text in (b"first", b"second")]

    processor = await js.pull_subscribe_bind(consumer=consumer, stream=stream)
    fetched = []
    while len(fetched) < 2:
        for message in await processor.fetch(2 - len(fetched), timeout=5):
            await message.ack_sync()
            fetched.append(message.data.decode())
    info = await processor.consumer_info()
    return {
        "acks": acks,
        "fetched": fetched,
        "pending": info.num_pending,
        "ack_pending": info.num_ack_pending,
    }
