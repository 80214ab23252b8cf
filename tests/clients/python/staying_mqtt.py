"""Stays connected with paho-mqtt at its defaults (QoS 0), and prints what becomes of that; see
../README.md."""

import time
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt

from heard import Arguments, Heard

# Between two connections, and before a first one is tried again.
BETWEEN = 0.02
AGAIN = 1.0


def stay(connection: int, arguments: Arguments) -> tuple[mqtt.Client, Heard]:
    heard = Heard(connection)
    before = []

    def on_connect(client, _data, _flags, reason, _properties) -> None:
        if reason.is_failure:
            heard.say("error", text=str(reason))
        else:
            client.subscribe(arguments.subscribe)

    def on_subscribe(*_arguments) -> None:
        heard.say("reconnected" if before else "connected")
        before.append(True)

    def on_disconnect(_client, _data, _flags, reason, _properties) -> None:
        heard.say("disconnected", text=str(reason))

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.on_connect, client.on_disconnect = on_connect, on_disconnect
    client.on_subscribe = on_subscribe
    client.on_message = lambda _client, _data, message: heard.message(message.payload)
    client.username_pw_set(arguments.user, arguments.password)
    url = urlsplit(arguments.url)
    while True:
        try:
            client.connect(url.hostname, url.port)
            break
        except OSError as error:
            if arguments.count == 1:
                raise
            heard.say("error", text=f"at first: {error}")
            time.sleep(AGAIN)
    thread = client.loop_start()
    assert thread == mqtt.MQTT_ERR_SUCCESS, thread
    return client, heard


def main() -> None:
    arguments = Arguments()
    all_of_them = []
    for connection in range(arguments.count):
        all_of_them.append(stay(connection, arguments))
        time.sleep(BETWEEN)
    number = 0
    while True:
        number += 1
        for client, heard in all_of_them:
            if client.is_connected():
                client.publish(arguments.publish, str(number))
            heard.tell()
        time.sleep(arguments.pause)


main()
