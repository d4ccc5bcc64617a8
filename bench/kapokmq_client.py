"""grocketmq's side of each KapokMQ scenario: what an application would write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from os import getpid
from time import perf_counter
from typing import Any

from bench.kapokmq_floor import WINDOW, fill
from bench.kapokmq_raw import BODY_BYTES
from bench.meters import Meter, Round
from bench.scenarios import Job
from grocketmq.kapokmq import Consumer, Producer

__all__ = ["SIDES"]

_ids = (f"grocketmq_{getpid()}_{number}" for number in count())


def _client(kind: type[Any], job: Job, **options: Any) -> Any:
    host, port = job.broker.rsplit(":", 1)
    return kind(host, int(port), job.topic, next(_ids), job.key, **options)


@contextmanager
def one_at_a_time(job: Job) -> Iterator[Callable[[], Round]]:
    """``send`` after ``send``."""
    body = "x" * BODY_BYTES
    with _client(Producer, job) as producer:

        def run() -> Round:
            latencies: list[float] = []
            with Meter() as meter:
                now = perf_counter()
                end = now + job.seconds
                while now < end:
                    begin = now
                    producer.send(body)
                    now = perf_counter()
                    latencies.append(now - begin)
            return meter.result(len(latencies), latencies)

        yield run


@contextmanager
def pipelined(job: Job) -> Iterator[Callable[[], Round]]:
    """``send_async`` with the default bound, then ``flush``."""
    body = "x" * BODY_BYTES
    with _client(Producer, job, max_in_flight=WINDOW) as producer:

        def run() -> Round:
            with Meter() as meter:
                for _ in range(job.messages):
                    producer.send_async(body)
                producer.flush()
            return meter.result(job.messages)

        yield run


@contextmanager
def consume(job: Job) -> Iterator[Callable[[], Round]]:
    """``receive`` and ``ack``; little is buffered before the clock runs."""
    with _client(Consumer, job, max_buffered=1000) as consumer:

        def run() -> Round:
            fill(job, job.messages)
            with Meter() as meter:
                for _ in range(job.messages):
                    consumer.receive(10.0).ack()
            return meter.result(job.messages)

        yield run


SIDES = {"send": one_at_a_time, "oneway": pipelined, "consume": consume}
