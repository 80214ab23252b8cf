"""Logs in with nats-py and prints what happened; see ../README.md."""

import argparse
import asyncio
import json
import ssl

import nats
from jetstream import use_jetstream

TIMEOUT = 10


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    optional = ("user", "password", "token", "nkey-seed", "ca", "cert", "key")
    optional += ("inbox-prefix", "forbidden")
    for name in (*optional, "stream", "consumer", "store"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--cookie", action="append", default=[])
    parser.add_argument("--create", action="store_true")
    for name in ("subscribe", "publish", "request"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()

    violations: list[str] = []
    violated = asyncio.Event()

    async def on_error(error: Exception) -> None:
        if "permissions violation" in str(error).lower():
            violations.append(str(error))
            if len(violations) >= 2:
                violated.set()

    options = {"allow_reconnect": False, "connect_timeout": TIMEOUT, "error_cb": on_error}
    if args.user is not None:
        options |= {"user": args.user, "password": args.password}
    if args.token is not None:
        options |= {"token": args.token}
    if args.nkey_seed is not None:
        options |= {"nkeys_seed_str": args.nkey_seed}
    if args.ca is not None:
        options["tls"] = ssl.create_default_context(cafile=args.ca)
        if args.cert is not None:
            options["tls"].load_cert_chain(args.cert, args.key)
    if args.cookie:
        options["ws_connection_headers"] = {"Cookie": ["; ".join(args.cookie)]}
    if args.inbox_prefix is not None:
        options |= {"inbox_prefix": args.inbox_prefix}

    seen = {"connected": False, "error": None, "received": [], "reply": None, "jetstream": None}
    try:
        client = await nats.connect(args.url, **options)
    except Exception as error:
        print(json.dumps(seen | {"error": str(error) or repr(error), "violations": []}))
        return
    seen["connected"] = True

    hello = asyncio.Event()

    async def answer(message) -> None:
        if message.reply:
            await message.respond(b"pong:" + message.data)
        else:
            seen["received"].append(message.data.decode())
            hello.set()

    await client.subscribe(args.subscribe, cb=answer)
    await client.publish(args.publish, b"hello")
    try:
        await asyncio.wait_for(hello.wait(), TIMEOUT)
        seen["reply"] = (await client.request(args.request, b"ping", TIMEOUT)).data.decode()
        if args.stream is not None:
            seen["jetstream"] = await use_jetstream(
                client, args.stream, args.consumer, args.store, args.create
            )
    except Exception as error:
        seen["error"] = str(error) or repr(error)

    if args.forbidden is not None:
        await client.subscribe(args.forbidden)
        await client.publish(args.forbidden, b"forbidden")
        try:
            await asyncio.wait_for(violated.wait(), TIMEOUT)
        except asyncio.TimeoutError:
            pass
    await client.close()
    print(json.dumps(seen | {"violations": violations}))


asyncio.run(main())
