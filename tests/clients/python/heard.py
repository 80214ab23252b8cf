"""What a program that stays connected prints: its words, and which numbers it has heard."""

import json
import time


def say(event: str, **more: object) -> None:
    # At once, since more than one thread may say something.
    print(json.dumps({"event": event} | more) + "\n", end="", flush=True)


class Heard:
    """Messages hold numbers that follow each other."""

    def __init__(self) -> None:
        self.last = None
        self.at = 0.0

    def message(self, data: bytes) -> None:
        number, now = int(data), time.monotonic()
        if self.last is not None and number > self.last + 1:
            say("gap", missed=number - self.last - 1, ms=round((now - self.at) * 1000))
        self.last, self.at = number, now

    def tell(self) -> None:
        if self.last is not None:
            say("seen", number=self.last)
