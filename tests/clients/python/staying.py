"""Stays connected with nats-py at its defaults, and prints what becomes of that; see ../README.md."""

import asyncio
import json
import sys

import nats


def say(event: str, **more: str) -> None:
    print(json.dumps({"event": event} | more), flush=True)


async def main() -> None:
    url, user, password = sys.argv[1:]
    closed = asyncio.Event()

    async def on_error(error: Exception) -> None:
        say("error", text=str(error) or repr(error))

    async def on_disconnected() -> None:
        say("disconnected")

    async def on_reconnected() -> None:
        say("reconnected")

    async def on_closed() -> None:
        say("closed")
        closed.set()

    await nats.connect(
        url,
        user=user,
        password=password,
        error_cb=on_error,
        disconnected_cb=on_disconnected,
        reconnected_cb=on_reconnected,
        closed_cb=on_closed,
    )
    say("connected")
    await closed.wait()


asyncio.run(main())
