"""The floor's side of each scenario: pre-encoded frames over a plain gevent socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter, perf_counter_ns

import gevent

from bench.meters import Meter, Round
from bench.raw import Connection, Puller, Window, batch_frame, frame, max_offset_sum, missing, send_frame
from bench.scenarios import Job
from grocketmq.codes import RequestCode

__all__ = ["LATENCY_INTERVAL", "SIDES", "wait_for"]

#: Different frames that take turns, so that the broker sees many unique keys.
FRAMES = 1024
#: Frames that the oneway writer hands to the socket at once.
ONEWAY_CHUNK = 100
#: Seconds between messages of the latency scenario.
LATENCY_INTERVAL = 0.002


@contextmanager
def closed_loop(job: Job) -> Iterator[Callable[[], Round]]:
    """Sends or batches: as many frames outstanding as there are callers, each reply is followed by one frame."""
    body = bytes(job.body_bytes)
    if job.kind == "batch":
        count = max(64, job.callers)
        frames = [batch_frame(job.topic, body, number, job.queues, job.batch) for number in range(count)]
    else:
        frames = [send_frame(job.topic, body, number, job.queues) for number in range(max(FRAMES, job.callers))]
    window = Window(frames)
    with Connection(job.broker) as connection:

        def run() -> Round:
            latencies: list[float] = []
            with Meter() as meter:
                done = _keep_outstanding(connection, window, job, latencies)
            return meter.result(done * job.batch, latencies)

        yield run


def _keep_outstanding(connection: Connection, window: Window, job: Job, latencies: list[float]) -> int:
    send, count_replies, take = connection.send, connection.count_replies, window.take
    timed = job.callers == 1
    done = 0
    begin = now = perf_counter()
    end = begin + job.seconds
    outstanding = job.callers
    send(take(outstanding))
    while outstanding:
        count = count_replies()
        now = perf_counter()
        if timed:
            latencies.append(now - begin)
            begin = now
        done += count
        outstanding -= count
        if now < end:
            send(take(count))
            outstanding += count
    return done


@contextmanager
def oneway(job: Job) -> Iterator[Callable[[], Round]]:
    """Writes as fast as the socket takes it, until a question asked after the last frame is answered."""
    body = bytes(job.body_bytes)
    window = Window([send_frame(job.topic, body, number, job.queues, oneway=True) for number in range(FRAMES)])
    question = _max_offset_question(job.topic)
    with Connection(job.broker) as connection:

        def run() -> Round:
            with Meter() as meter:
                left = job.messages
                while left:
                    count = min(left, ONEWAY_CHUNK)
                    connection.send(window.take(count))
                    left -= count
                connection.send(question)
                connection.count_replies()
            return meter.result(job.messages)

        yield run


def _max_offset_question(topic: str) -> bytes:
    return frame(RequestCode.GET_MAX_OFFSET, {"topic": topic, "queueId": "0"}, opaque=1)


@contextmanager
def consume(job: Job) -> Iterator[Callable[[], Round]]:
    """Fills the topic (the library's side reads the same messages), then counts them by their length prefixes."""
    fill(job)
    with Puller(job.topic, job.broker, job.queues) as puller:

        def run() -> Round:
            puller.rewind()
            puller.pull_all()
            meter = Meter()
            left = job.messages
            first = 0
            while left > 0:
                for queue, count, _ in puller.receive():
                    if left == job.messages and count:
                        meter.start()
                        first = count
                    left -= count
                    if left > 0:
                        puller.pull(queue)
            meter.stop()
            _leave_no_pull(puller, job)
            return meter.result(job.messages - first)

        yield run


def fill(job: Job) -> None:
    """Write the messages that are consumed, evenly over the queues."""
    size = 32
    body = bytes(job.body_bytes)
    count = job.messages // size
    window = Window([batch_frame(job.topic, body, number, job.queues, size) for number in range(64)])
    before = max_offset_sum(job.broker, job.topic, job.queues)
    with Connection(job.broker) as connection:
        connection.send(window.take(8))
        written, answered = 8, 0
        while answered < count:
            answered += connection.count_replies()
            more = min(count - written, 8 - (written - answered))
            if more:
                connection.send(window.take(more))
                written += more
    if lost := missing(job.broker, job.topic, job.queues, before, count * size):
        raise RuntimeError(f"{lost} messages of {count * size} are not in {job.topic}")


def _leave_no_pull(puller: Puller, job: Job) -> None:
    """Answers of the last pulls must not be taken for those of the next round."""
    puller.connection.__exit__()
    puller.connection = Connection(job.broker)


@contextmanager
def latency(job: Job) -> Iterator[Callable[[], Round]]:
    """One sender and one puller on connections of their own; the body says when it was born."""
    pad = bytes(job.body_bytes - 8)
    with Puller(job.topic, job.broker, job.queues) as puller, Connection(job.broker) as connection:
        puller.pull_all()
        latencies: list[float] = []

        def receive() -> None:
            while True:
                for queue, _, messages in puller.receive():
                    now = perf_counter_ns()
                    puller.pull(queue)
                    latencies.extend((now - born) / 1e9 for born in births(messages))

        receiver = gevent.spawn(receive)

        def run() -> Round:
            latencies.clear()
            with Meter() as meter:
                for number in range(job.messages):
                    body = perf_counter_ns().to_bytes(8, "big") + pad
                    connection.send(send_frame(job.topic, body, number, job.queues))
                    connection.count_replies()
                    gevent.sleep(LATENCY_INTERVAL)
                wait_for(lambda: len(latencies) >= job.messages or receiver.dead)
            return meter.result(job.messages, latencies)

        try:
            yield run
        finally:
            receiver.kill()


def births(messages: bytes) -> Iterator[int]:
    """The times in the bodies of stored messages of IPv4 hosts, where a body starts at byte 88."""
    position = 0
    while position < len(messages):
        yield int.from_bytes(messages[position + 88 : position + 96], "big")
        position += int.from_bytes(messages[position : position + 4], "big")


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until the last messages have come."""
    with gevent.Timeout(10.0, TimeoutError("messages are missing")):
        while not condition():
            gevent.sleep(0.002)


SIDES = {"send": closed_loop, "batch": closed_loop, "oneway": oneway, "consume": consume, "latency": latency}
