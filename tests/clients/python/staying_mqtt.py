"""Stays connected with paho-mqtt at its defaults (QoS 0), and prints what becomes of that; see
../README.md."""

import sys
import time
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt

from heard import Heard, say

PAUSE = 0.5


def main() -> None:
    url, user, password, subscribe, publish = sys.argv[1:]
    heard = Heard()
    before = []

    def on_connect(client, _data, _flags, reason, _properties) -> None:
        if reason.is_failure:
            say("error", text=str(reason))
        else:
            client.subscribe(subscribe)

    def on_subscribe(*_arguments) -> None:
        say("reconnected" if before else "connected")
        before.append(True)

    def on_disconnect(_client, _data, _flags, reason, _properties) -> None:
        say("disconnected", text=str(reason))

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.on_connect, client.on_disconnect = on_connect, on_disconnect
    client.on_subscribe = on_subscribe
    client.on_message = lambda _client, _data, message: heard.message(message.payload)
    client.username_pw_set(user, password)
    client.connect(urlsplit(url).hostname, urlsplit(url).port)
    thread = client.loop_start()
    assert thread == mqtt.MQTT_ERR_SUCCESS, thread
    number = 0
    while True:
        number += 1
        if client.is_connected():
            client.publish(publish, str(number))
        heard.tell()
        time.sleep(PAUSE)


main()
