"""Logs in with paho-mqtt (MQTT 3.1.1) and prints what happened; see ../README.md."""

import argparse
import json
import threading

import paho.mqtt.client as mqtt

TIMEOUT = 10


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--client-id", required=True)
    for name in ("user", "password", "ca", "cert", "key", "publish", "subscribe"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--qos", type=int, default=1)
    args = parser.parse_args()

    seen = {"connected": False, "error": None, "received": [], "granted": []}
    decided, subscribed, heard = threading.Event(), threading.Event(), threading.Event()

    def on_connect(_client, _data, _flags, reason, _properties) -> None:
        seen["connected"] = not reason.is_failure
        seen["error"] = str(reason) if reason.is_failure else None
        decided.set()

    def on_disconnect(_client, _data, _flags, reason, _properties) -> None:
        if not decided.is_set():
            seen["error"] = str(reason)
            decided.set()

    def on_subscribe(_client, _data, _mid, reasons, _properties) -> None:
        seen["granted"] = [not reason.is_failure for reason in reasons]
        subscribed.set()

    def on_message(_client, _data, message) -> None:
        seen["received"].append(f"{message.topic} {message.payload.decode()}")
        heard.set()

    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2,
        client_id=args.client_id,
        protocol=mqtt.MQTTv311,
        reconnect_on_failure=False,
    )
    client.on_connect, client.on_disconnect = on_connect, on_disconnect
    client.on_subscribe, client.on_message = on_subscribe, on_message
    if args.user is not None:
        client.username_pw_set(args.user, args.password)
    if args.ca is not None:
        client.tls_set(ca_certs=args.ca, certfile=args.cert, keyfile=args.key)
    client.connect("127.0.0.1", args.port)
    client.loop_start()
    decided.wait(TIMEOUT)
    if seen["connected"] and args.subscribe is not None:
        client.subscribe(args.subscribe, qos=args.qos)
        subscribed.wait(TIMEOUT)
        # What is published with QoS 1 or 2 is stored before it is acknowledged.
        client.publish(args.publish, "hello", qos=args.qos).wait_for_publish(TIMEOUT)
        if any(seen["granted"]):
            heard.wait(TIMEOUT)
    client.disconnect()
    client.loop_stop()
    print(json.dumps(seen))


main()
