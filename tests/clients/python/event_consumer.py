"""A program that hears of every change of tenants and users: see examples/event_consumer.rs.

    python3 event_consumer.py nats://127.0.0.1:4222 DIR/keys/events.creds FOLDER [CONSUMER]
"""

import asyncio
import json
import sys
from pathlib import Path

import nats
from nats.errors import TimeoutError

STREAM = "AUTH_EVENTS"
CONSUMER = "events"
MAX_DELIVER = 5
RETRY = 0.2
TYPES = {f"auth.{what}.{how}" for what in ("tenant", "user") for how in ("created", "updated", "removed")}


def write(folder, event):
    """Writes the data under the event's id, once; False if it was handled before."""
    try:
        with open(folder / f"{event['id']}.json", "x") as file:
            json.dump(event["data"], file)
    except FileExistsError:
        return False
    return True


def handle(event, folder):
    """Routes by type; types that came later are for later programs."""
    return event["type"] in TYPES and write(folder / event["type"], event)


async def settle(message, folder):
    """Acknowledges what is handled; has the rest delivered again, or sets it aside."""
    try:
        event = json.loads(message.data)
        what = f"{event['type']} {event['subject']} {event['id']}"
    except (ValueError, KeyError):
        print(f"parked {message.subject}", flush=True)
        return await message.term()
    try:
        outcome = "handled" if handle(event, folder) else "again"
    except OSError as error:
        if message.metadata.num_delivered < MAX_DELIVER:
            print(f"failed {what}: {error}", flush=True)
            return await message.nak(delay=RETRY)
        write(folder / "parked", event)
        print(f"parked {what}", flush=True)
        return await message.term()
    # The server confirms: handled once is handled for good.
    await message.ack_sync()
    print(f"{outcome} {what}", flush=True)


async def main(url, credentials, folder, consumer=CONSUMER):
    # Operator mode has a creds file, config mode a seed.
    key = "user_credentials" if credentials.endswith(".creds") else "nkeys_seed"
    connection = await nats.connect(
        url, name="event consumer", inbox_prefix="_INBOX_events", **{key: credentials}
    )
    jetstream = connection.jetstream(prefix="JS.auth.API")
    consumer = await jetstream.pull_subscribe_bind(consumer, STREAM)
    while True:
        try:
            messages = await consumer.fetch(batch=100, timeout=5)
        except TimeoutError:
            continue
        for message in messages:
            await settle(message, Path(folder))


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit("usage: event_consumer.py URL CREDENTIALS FOLDER [CONSUMER]")
    asyncio.run(main(*sys.argv[1:]))
