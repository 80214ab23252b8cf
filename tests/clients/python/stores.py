"""Which calls of nats-py's JetStream, KV and object stores a user's permissions allow; see ../README.md."""

import asyncio
import json
import sys

import nats
from nats.js.api import ObjectMeta, ObjectMetaOptions

TIMEOUT = 10


async def listed(watcher) -> None:
    """All that is there."""
    while await watcher.updates(TIMEOUT) is not None:
        pass
    await watcher.stop()


async def kv(js, bucket, attempt, made) -> None:
    async def make():
        store = await js.create_key_value(bucket=bucket, history=5)
        await store.put("colour", b"red")
        await store.put("gone", b"grey")
        await store.delete("gone")

    if made:
        await attempt("make", make)
    store = await attempt("open", lambda: js.key_value(bucket))
    await attempt("get", lambda: store.get("colour"))
    await attempt("get a revision", lambda: store.get("colour", revision=1))
    await attempt("keys", store.keys)
    await attempt("history", lambda: store.history("colour"))

    async def watch():
        await listed(await store.watch("colour"))

    await attempt("watch", watch)
    await attempt("status", store.status)
    revision = await attempt("put", lambda: store.put("python", b"1"))
    await attempt("update", lambda: store.update("python", b"2", last=revision))
    await attempt("create", lambda: store.create("python-new", b"1"))
    await attempt("delete", lambda: store.delete("python-new"))
    await attempt("create what was deleted", lambda: store.create("python-new", b"2"))
    await attempt("purge", lambda: store.purge("python-new"))
    await attempt("purge what was deleted", store.purge_deletes)


async def objects(js, bucket, attempt, made) -> None:
    async def make():
        store = await js.create_object_store(bucket)
        await store.put("logo", b"hello")

    if made:
        await attempt("make", make)
    store = await attempt("open", lambda: js.object_store(bucket))
    await attempt("info", lambda: store.get_info("logo"))
    await attempt("get", lambda: store.get("logo"))
    await attempt("list", lambda: store.list())

    async def watch():
        await listed(await store.watch())

    await attempt("watch", watch)
    await attempt("status", store.status)
    await attempt("put", lambda: store.put("python", b"x" * 300_000))
    await attempt("put again", lambda: store.put("python", b"y" * 300_000))
    meta = ObjectMeta(name="python", description="two", options=ObjectMetaOptions())
    await attempt("change what is said of it", lambda: store.update_meta("python", meta))
    await attempt("delete", lambda: store.delete("python"))
    await attempt("seal", store.seal)


async def stream(js, name, attempt, made) -> None:
    if made:
        await attempt("make", lambda: js.add_stream(name=name, subjects=[f"{name}.>"]))
    await attempt("look it up", lambda: js.stream_info(name))
    await attempt("publish", lambda: js.publish(f"{name}.new", b"1"))

    async def at_once():
        for future in [await js.publish_async(f"{name}.new", b"2") for _ in range(2)]:
            await future

    await attempt("publish at once", at_once)
    await attempt("publish what is not in P", lambda: js.publish(f"{name}.other.new", b"1"))
    await attempt(
        "look up which stream a subject is in", lambda: js.find_stream_name_by_subject(f"{name}.new")
    )


async def main(url, user, password, kind, name, made=None) -> None:
    violated, complaints, results = asyncio.Event(), [], {}

    async def on_error(error: Exception) -> None:
        if "violation" in str(error).lower():
            complaints.append(str(error))
            violated.set()

    client = await nats.connect(
        url, user=user, password=password, allow_reconnect=False, error_cb=on_error, connect_timeout=TIMEOUT
    )

    async def attempt(what, call):
        violated.clear()
        complaints.clear()
        made = asyncio.ensure_future(call())
        refused = asyncio.ensure_future(violated.wait())
        await asyncio.wait({made, refused}, timeout=TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        # Whatever the server has to say of it comes before the answer to this.
        await client.flush()
        refused.cancel()
        if complaints:
            made.cancel()
            results[what] = complaints[0]
            return None
        if not made.done():
            made.cancel()
            results[what] = "no answer"
            return None
        if error := made.exception():
            results[what] = f"{type(error).__name__}: {error}"
            return None
        results[what] = "yes"
        return made.result()

    calls = {"kv": kv, "objects": objects, "stream": stream}[kind]
    await calls(client.jetstream(timeout=TIMEOUT), name, attempt, made is not None)
    await client.close()
    print(json.dumps(results))


asyncio.run(main(*sys.argv[1:]))
