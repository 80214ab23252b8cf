"""Which calls of nats-py's KV and object stores a user's permissions allow; see ../README.md."""

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


async def kv(js, bucket, attempt) -> None:
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


async def objects(js, bucket, attempt) -> None:
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


async def main(url, user, password, kind, bucket) -> None:
    violated, complaints, results = asyncio.Event(), [], {}

    async def on_error(error: Exception) -> None:
        if "violation" in str(error).lower():
            complaints.append(str(error))
            violated.set()

    client = await nats.connect(
        url, user=user, password=password, allow_reconnect=False, error_cb=on_error, connect_timeout=TIMEOUT
    )

    async def attempt(name, call):
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
            results[name] = complaints[0]
            return None
        if not made.done():
            made.cancel()
            results[name] = "no answer"
            return None
        if error := made.exception():
            results[name] = f"{type(error).__name__}: {error}"
            return None
        results[name] = "yes"
        return made.result()

    await {"kv": kv, "objects": objects}[kind](client.jetstream(timeout=TIMEOUT), bucket, attempt)
    await client.close()
    print(json.dumps(results))


asyncio.run(main(*sys.argv[1:]))
