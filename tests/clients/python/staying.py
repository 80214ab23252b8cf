"""Stays connected with nats-py at its defaults, and prints what becomes of that; see ../README.md."""

import asyncio

import nats
from nats.aio.client import Client

from heard import Arguments, Heard

# Between two connections, and before a first one is tried again.
BETWEEN = 0.02
AGAIN = 1.0


class Staying:
    def __init__(self, connection: int, arguments: Arguments) -> None:
        self.arguments = arguments
        self.heard = Heard(connection)
        self.closed = asyncio.Event()
        self.nc: Client | None = None

    async def connect(self) -> None:
        say = self.heard.say

        async def on_error(error: Exception) -> None:
            say("error", text=str(error) or repr(error))

        async def on_disconnected() -> None:
            say("disconnected")

        async def on_reconnected() -> None:
            say("reconnected")

        async def on_closed() -> None:
            # One that has never been connected is tried again.
            if self.nc is not None:
                say("closed")
                self.closed.set()

        self.nc = await nats.connect(
            self.arguments.url,
            user=self.arguments.user,
            password=self.arguments.password,
            error_cb=on_error,
            disconnected_cb=on_disconnected,
            reconnected_cb=on_reconnected,
            closed_cb=on_closed,
        )

    async def stay(self) -> None:
        nc, heard = self.nc, self.heard
        sub = await nc.subscribe(self.arguments.subscribe)

        async def listen() -> None:
            async for message in sub.messages:
                heard.message(message.data)

        listening = asyncio.create_task(listen())
        try:
            await nc.flush()
        except Exception as error:  # noqa: BLE001: whatever the library says
            heard.say("error", text=f"flush: {error}")
        heard.say("connected")
        number = 0
        while not self.closed.is_set():
            number += 1
            try:
                await nc.publish(self.arguments.publish, str(number).encode())
            except Exception as error:  # noqa: BLE001: whatever the library says
                heard.say("error", text=f"publish: {error}")
            heard.tell()
            await asyncio.sleep(self.arguments.pause)
        await listening


async def main() -> None:
    arguments = Arguments()
    tasks = []
    for connection in range(arguments.count):
        staying = Staying(connection, arguments)
        while True:
            try:
                await staying.connect()
                break
            except Exception as error:  # noqa: BLE001: whatever the library says
                if arguments.count == 1:
                    raise
                staying.heard.say("error", text=f"at first: {error}")
                await asyncio.sleep(AGAIN)
        tasks.append(asyncio.create_task(staying.stay()))
        await asyncio.sleep(BETWEEN)
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


asyncio.run(main())
