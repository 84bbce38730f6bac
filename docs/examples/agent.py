"""An agent with four busy threads, a log, and a stream of its warnings: run it, then look at agent.db."""

import logging
import sys
import threading

from tsstreamer import SqliteDataStreamer, SqliteLogHandler, StreamMessenger

with SqliteDataStreamer("agent.db", nodename="node-1") as streamer:
    log = logging.getLogger("agent")
    log.setLevel(logging.INFO)
    log.propagate = False
    handler = SqliteLogHandler(streamer=streamer)
    log.addHandler(handler)
    streamer.stream("logkey", ["control"], ["watchers"], ["log"], period=0.2, sqlfilter="level >= 30")
    streamer.startUpdates(StreamMessenger(sys.stdout))

    def work(worker: int) -> None:
        for step in range(1000):
            log.info("worker %d at step %d", worker, step)
        log.warning("worker %d is done", worker)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    log.removeHandler(handler)
    report = streamer.close()

assert report.stored == 4 * 1001, report
