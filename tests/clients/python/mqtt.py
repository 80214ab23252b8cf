"""Logs in with paho-mqtt (MQTT 3.1.1) and prints what happened; see ../README.md."""

import argparse
import json
import threading

import paho.mqtt.client as mqtt

TIMEOUT = 10
# What a server says of a subscription in the place of its QoS.
REFUSED = 128


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--client-id", required=True)
    for name in ("user", "password", "ca", "cert", "key", "publish", "subscribe"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--qos", type=int, default=1)
    parser.add_argument("--away", action="store_true")
    args = parser.parse_args()

    seen = {"connected": False, "error": None, "received": [], "granted": [], "session": False}
    decided, subscribed, heard = threading.Event(), threading.Event(), threading.Event()

    def on_connect(_client, _data, flags, reason, _properties) -> None:
        seen["connected"] = not reason.is_failure
        seen["session"] = flags.session_present
        seen["error"] = str(reason) if reason.is_failure else None
        decided.set()

    def on_disconnect(_client, _data, _flags, reason, _properties) -> None:
        if not decided.is_set():
            seen["error"] = str(reason)
            decided.set()

    def on_subscribe(_client, _data, _mid, reasons, _properties) -> None:
        seen["granted"] = [reason.value for reason in reasons]
        subscribed.set()

    def on_message(_client, _data, message) -> None:
        seen["received"].append(f"{message.topic} {message.payload.decode()} {message.qos}")
        heard.set()

    def join(client_id: str, clean: bool) -> mqtt.Client:
        client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=clean,
            protocol=mqtt.MQTTv311,
            reconnect_on_failure=False,
        )
        client.on_connect, client.on_disconnect = on_connect, on_disconnect
        client.on_subscribe, client.on_message = on_subscribe, on_message
        if args.user is not None:
            client.username_pw_set(args.user, args.password)
        if args.ca is not None:
            client.tls_set(ca_certs=args.ca, certfile=args.cert, keyfile=args.key)
        decided.clear()
        client.connect("127.0.0.1", args.port)
        client.loop_start()
        decided.wait(TIMEOUT)
        return client

    def leave(client: mqtt.Client) -> None:
        client.disconnect()
        client.loop_stop()

    client = join(args.client_id, not args.away)
    if seen["connected"] and args.subscribe is not None:
        client.subscribe(args.subscribe, qos=args.qos)
        subscribed.wait(TIMEOUT)
        if args.away:
            leave(client)
            client = join(f"{args.client_id}-other", True)
        # What is published with QoS 1 or 2 is stored before it is acknowledged.
        client.publish(args.publish, "hello", qos=args.qos).wait_for_publish(TIMEOUT)
        if args.away:
            leave(client)
            client = join(args.client_id, False)
        if seen["granted"] != [REFUSED]:
            heard.wait(TIMEOUT)
    leave(client)
    print(json.dumps(seen))


main()
