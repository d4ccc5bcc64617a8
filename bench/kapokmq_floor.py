"""The floor's side of each KapokMQ scenario: frames by hand over a plain gevent socket, a write for each message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from os import getpid
from time import perf_counter

import gevent
from gevent.lock import Semaphore

from bench.kapokmq_raw import BODY_BYTES, RawClient, masked_frame
from bench.meters import Meter, Round
from bench.scenarios import Job

__all__ = ["SIDES", "WINDOW", "fill"]

#: Messages that a pipelined producer keeps unacknowledged at most.
WINDOW = 2048
OK_BYTES = 4
_TEXT = b'{"MessageData":"%s","DelayTime":0}' % (b"x" * BODY_BYTES)
_ids = (f"floor_{getpid()}_{number}" for number in count())


@contextmanager
def one_at_a_time(job: Job) -> Iterator[Callable[[], Round]]:
    """A message is sent when the one before it is acknowledged."""
    client = RawClient(job.broker, "Producers", job.topic, next(_ids), job.key)
    sock = client.sock

    def run() -> Round:
        latencies: list[float] = []
        with Meter() as meter:
            now = perf_counter()
            end = now + job.seconds
            while now < end:
                begin = now
                sock.sendall(masked_frame(_TEXT))
                assert len(sock.recv(65536)) == OK_BYTES
                now = perf_counter()
                latencies.append(now - begin)
        return meter.result(len(latencies), latencies)

    yield run
    sock.close()


@contextmanager
def pipelined(job: Job) -> Iterator[Callable[[], Round]]:
    """A write for each message, while another greenlet reads acknowledgements."""
    client = RawClient(job.broker, "Producers", job.topic, next(_ids), job.key)

    def run() -> Round:
        with Meter() as meter:
            send_all(client, job.messages)
        return meter.result(job.messages)

    yield run
    client.sock.close()


def send_all(client: RawClient, messages: int) -> None:
    """Send so many, and wait for their acknowledgements."""
    sock = client.sock
    room = Semaphore(WINDOW)

    def read() -> None:
        acknowledged = 0
        data = b""
        while acknowledged < messages:
            data += sock.recv(65536)
            at = 0
            while len(data) - at >= 2 and (end := at + 2 + data[at + 1]) <= len(data):
                assert data[at + 2 : end] == b"ok"
                acknowledged += 1
                room.release()
                at = end
            data = data[at:]

    reader = gevent.spawn(read)
    for _ in range(messages):
        if not room.acquire(blocking=False):
            room.acquire()
        sock.sendall(masked_frame(_TEXT))
    reader.get()


def fill(job: Job, messages: int) -> None:
    """Have the server hold so many messages for a consumer that is there and does not read."""
    client = RawClient(job.broker, "Producers", job.topic, next(_ids), job.key)
    send_all(client, messages)
    client.sock.close()


@contextmanager
def consume(job: Job) -> Iterator[Callable[[], Round]]:
    """Finds the code of each message by its place, and acknowledges it with a write."""
    client = RawClient(job.broker, "Consumers", job.topic, next(_ids), job.key)
    sock = client.sock

    def run() -> Round:
        fill(job, job.messages)
        left = job.messages
        data = b""
        with Meter() as meter:
            while left:
                data += sock.recv(65536)
                at = 0
                while len(data) - at >= 4:
                    end = at + 4 + int.from_bytes(data[at + 2 : at + 4], "big")
                    if end > len(data):
                        break
                    sock.sendall(masked_frame(data[at + 20 : at + 52]))
                    left -= 1
                    at = end
                data = data[at:]
        return meter.result(job.messages)

    yield run
    sock.close()


SIDES = {"send": one_at_a_time, "oneway": pipelined, "consume": consume}
