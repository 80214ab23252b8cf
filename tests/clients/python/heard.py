"""What a program that stays connected prints: the words of its connections, and which numbers each has
heard."""

import json
import sys
import time


class Arguments:
    """The command line of all of them."""

    def __init__(self) -> None:
        self.url, self.user, self.password, self.subscribe, self.publish, *many = sys.argv[1:]
        self.count = int(many[0]) if many else 1
        self.pause = float(many[1]) if len(many) > 1 else 0.5


class Heard:
    """Of one connection. Messages hold numbers that follow each other."""

    def __init__(self, connection: int) -> None:
        self.connection = connection
        self.last = None
        self.at = 0.0

    def say(self, event: str, **more: object) -> None:
        # At once, since more than one thread may say something.
        word = {"event": event, "connection": self.connection} | more
        print(json.dumps(word) + "\n", end="", flush=True)

    def message(self, data: bytes) -> None:
        number, now = int(data), time.monotonic()
        if self.last is not None and number > self.last + 1:
            self.say("gap", missed=number - self.last - 1, ms=round((now - self.at) * 1000))
        self.last, self.at = number, now

    def tell(self) -> None:
        if self.last is not None:
            self.say("seen", number=self.last)
