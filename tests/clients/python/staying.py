"""Stays connected with nats-py at its defaults, and prints what becomes of that; see ../README.md."""

import asyncio
import sys

import nats

from heard import Heard, say

PAUSE = 0.5


async def main() -> None:
    url, user, password, subscribe, publish = sys.argv[1:]
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

    nc = await nats.connect(
        url,
        user=user,
        password=password,
        error_cb=on_error,
        disconnected_cb=on_disconnected,
        reconnected_cb=on_reconnected,
        closed_cb=on_closed,
    )
    heard = Heard()
    sub = await nc.subscribe(subscribe)

    async def listen() -> None:
        async for message in sub.messages:
            heard.message(message.data)

    listening = asyncio.create_task(listen())
    await nc.flush()
    say("connected")
    number = 0
    while not closed.is_set():
        number += 1
        try:
            await nc.publish(publish, str(number).encode())
        except Exception as error:  # noqa: BLE001: whatever the library says
            say("error", text=f"publish: {error}")
        heard.tell()
        await asyncio.sleep(PAUSE)
    await listening


asyncio.run(main())
