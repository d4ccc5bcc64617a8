"""grocketmq's side of each scenario: what an application would write, and a meter around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from os import getpid
from time import perf_counter, perf_counter_ns

import gevent
from gevent.event import Event

from bench.floor import LATENCY_INTERVAL, wait_for
from bench.meters import Meter, Round
from bench.scenarios import Job
from grocketmq import ConsumeFromWhere, Message, MessageExt, Producer, PushConsumer

__all__ = ["SIDES"]

ROUND_TIMEOUT = 60.0


@contextmanager
def send(job: Job, hooks: Sequence[object] = ()) -> Iterator[Callable[[], Round]]:
    """Callers which send one message, or one batch, after the other."""
    body = bytes(job.body_bytes)
    with Producer("bench_producer", namesrv=job.namesrv, hooks=hooks) as producer:
        if job.kind == "batch":

            def call() -> None:
                producer.send_batch([Message(job.topic, body) for _ in range(job.batch)])
        else:

            def call() -> None:
                producer.send(Message(job.topic, body))

        call()

        def run() -> Round:
            with Meter() as meter:
                calls, latencies = _closed_loop(job, call)
            return meter.result(calls * job.batch, latencies)

        yield run


def _closed_loop(job: Job, call: Callable[[], None]) -> tuple[int, list[float]]:
    """Number of calls of all callers, and the seconds that each of the first caller's took."""
    end = perf_counter() + job.seconds
    calls = 0
    latencies: list[float] = []

    def timed_caller() -> None:
        nonlocal calls
        begin = perf_counter()
        while begin < end:
            call()
            now = perf_counter()
            latencies.append(now - begin)
            begin = now
        calls += len(latencies)

    def caller() -> None:
        nonlocal calls
        done = 0
        while perf_counter() < end:
            call()
            done += 1
        calls += done

    greenlets = [gevent.spawn(timed_caller), *(gevent.spawn(caller) for _ in range(job.callers - 1))]
    gevent.joinall(greenlets, raise_error=True)
    return calls, latencies


@contextmanager
def oneway(job: Job, hooks: Sequence[object] = ()) -> Iterator[Callable[[], Round]]:
    """One caller, until a question asked on the same connection after the last message is answered."""
    body = bytes(job.body_bytes)
    with Producer("bench_producer", namesrv=job.namesrv, hooks=hooks) as producer:
        producer.send(Message(job.topic, body))
        queue = producer.fetch_publish_queues(job.topic)[0]

        def run() -> Round:
            with Meter() as meter:
                for _ in range(job.messages):
                    producer.send_oneway(Message(job.topic, body))
                producer.max_offset(queue)
            return meter.result(job.messages)

        yield run


@contextmanager
def consume(job: Job, hooks: Sequence[object] = ()) -> Iterator[Callable[[], Round]]:
    """A new group each round, which reads the topic from its beginning; measured from the first message to the last."""
    groups = (f"bench_consumer_{getpid()}_{number}" for number in count())

    def run() -> Round:
        meter = Meter()
        done = Event()
        got = first = 0

        def listener(messages: list[MessageExt]) -> None:
            nonlocal got, first
            if not got:
                first = len(messages)
                meter.start()
            got += len(messages)
            if got >= job.messages and not done.is_set():
                meter.stop()
                done.set()

        consumer = PushConsumer(
            next(groups),
            namesrv=job.namesrv,
            consume_from=ConsumeFromWhere.FIRST_OFFSET,
            consume_batch_size=job.batch,
            hooks=hooks,
        )
        consumer.subscribe(job.topic)
        consumer.register_listener(listener)
        with consumer:
            if not done.wait(ROUND_TIMEOUT):
                raise TimeoutError(f"{got} of {job.messages} messages came within {ROUND_TIMEOUT:g} s")
        return meter.result(job.messages - first)

    yield run


@contextmanager
def latency(job: Job, hooks: Sequence[object] = ()) -> Iterator[Callable[[], Round]]:
    """A producer and a push consumer in one process; the body says when it was born."""
    pad = bytes(job.body_bytes - 8)
    latencies: list[float] = []

    def listener(messages: list[MessageExt]) -> None:
        now = perf_counter_ns()
        latencies.extend((now - int.from_bytes(message.body[:8], "big")) / 1e9 for message in messages)

    def send_one(producer: Producer) -> None:
        producer.send(Message(job.topic, perf_counter_ns().to_bytes(8, "big") + pad))

    consumer = PushConsumer(
        f"bench_consumer_{getpid()}", namesrv=job.namesrv, consume_from=ConsumeFromWhere.LAST_OFFSET, hooks=hooks
    )
    consumer.subscribe(job.topic)
    consumer.register_listener(listener)
    with Producer("bench_producer", namesrv=job.namesrv, hooks=hooks) as producer, consumer:
        _until_every_queue_is_pulled(lambda: send_one(producer), latencies, job.queues)

        def run() -> Round:
            latencies.clear()
            with Meter() as meter:
                for _ in range(job.messages):
                    send_one(producer)
                    gevent.sleep(LATENCY_INTERVAL)
                wait_for(lambda: len(latencies) >= job.messages)
            return meter.result(job.messages, latencies)

        yield run


def _until_every_queue_is_pulled(send_one: Callable[[], None], latencies: list[float], queues: int) -> None:
    """Send a round over all queues until all of it comes back at once."""
    with gevent.Timeout(ROUND_TIMEOUT, TimeoutError("the consumer gets nothing")):
        while True:
            latencies.clear()
            for _ in range(queues):
                send_one()
            gevent.sleep(0.5)
            if len(latencies) >= queues and max(latencies) < 0.5:
                return


SIDES = {"send": send, "batch": send, "oneway": oneway, "consume": consume, "latency": latency}
