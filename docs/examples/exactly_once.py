"""A messenger that loses answers, and a receiver that stores each row once all the same."""

import json
import random
import time

from tsstreamer import Message, Receiver, SqliteDataStreamer

random.seed(7)
stored: list[int] = []
receiver = Receiver()


class Unreliable:
    """Delivers each message, and then fails half of the time, as if the answer had been lost."""

    def send(self, message: Message) -> None:
        verdict = receiver.check(message)
        stored.extend(value for _, value in json.loads(message.data)[verdict.skip :])
        receiver.take(message)  # after storing: had that failed, the message would come again, and be new
        if random.random() < 0.5:
            raise ConnectionError("no answer")


with SqliteDataStreamer(":memory:") as streamer:
    streamer.addStorage("k", ["value"], ["INTEGER"])
    streamer.stream("k", ["control"], period=0.01, formatter=lambda data, _: json.dumps(data), maxRows=10)
    for number in range(100):
        streamer.storeData("k", time.time(), number)
    now = 0.0
    while streamer.stats().streams["k"].position < 100:
        now = streamer.doUpdates(now, Unreliable())

assert stored == list(range(100)), stored
