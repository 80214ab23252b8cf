"""What nats-py does with what a preset allows; see ../README.md."""

import asyncio
import json
import sys

import nats
from nats.js.api import AckPolicy, ConsumerConfig

TIMEOUT = 10


async def consume(js, stream, consumer=None) -> dict:
    made = consumer or "made-by-python"
    if consumer is None:
        config = ConsumerConfig(durable_name=made, ack_policy=AckPolicy.EXPLICIT)
        await js.add_consumer(stream, config)
    bound = await js.pull_subscribe_bind(consumer=made, stream=stream)
    [message] = await bound.fetch(1, timeout=TIMEOUT)
    await message.ack_sync()
    pending = (await bound.consumer_info()).num_ack_pending
    seen = {"fetched": message.subject, "ack_pending": pending}
    if consumer is None:
        await js.delete_consumer(stream, made)
        ordered = await js.subscribe(">", stream=stream, ordered_consumer=True)
        seen["ordered"] = (await ordered.next_msg(TIMEOUT)).subject
        await ordered.unsubscribe()
    return seen


async def read(js, bucket) -> dict:
    store = await js.key_value(bucket)
    watched = await store.watch("colour")
    entry = await watched.updates(TIMEOUT)
    await watched.stop()
    return {
        "get": (await store.get("colour")).value.decode(),
        "keys": await store.keys(),
        "history": len(await store.history("colour")),
        "watched": entry.value.decode(),
    }


async def write(js, bucket) -> dict:
    store = await js.key_value(bucket)
    revision = await store.put("python", b"1")
    await store.update("python", b"2", last=revision)
    await store.create("python-new", b"1")
    await store.delete("python-new")
    await store.purge("python-new")
    return {"written": "python"}


async def main(url, user, password, action, *names) -> None:
    violations: list[str] = []

    async def on_error(error: Exception) -> None:
        violations.append(str(error))

    client = await nats.connect(
        url, user=user, password=password, allow_reconnect=False, error_cb=on_error
    )
    action = {"consume": consume, "read": read, "write": write}[action]
    seen = await asyncio.wait_for(action(client.jetstream(), *names), 3 * TIMEOUT)
    await client.flush()
    await client.close()
    print(json.dumps({"seen": seen, "violations": violations}))


asyncio.run(main(*sys.argv[1:]))
