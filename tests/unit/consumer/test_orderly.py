"""An orderly consumer's service, without brokers."""

from __future__ import annotations

from time import monotonic
from typing import Any

import pytest
from gevent.event import Event

from grocketmq.consumer import orderly
from grocketmq.consumer.config import PushConsumerConfig
from grocketmq.consumer.orderly import OrderlyConsumeService
from grocketmq.consumer.process_queue import ProcessQueue
from grocketmq.consumer.stats import StatsRecorder
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.tasks import TaskGroup
from tests.helpers import wait_for
from tests.unit.consumer.fakes import QUEUE, FakeSendBack, FakeStore, messages


def test_a_batch_under_way_has_its_time_from_when_the_queue_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a batch under way and a lock renewed long ago, when its queue is given up, then that waits for a while."""
    monkeypatch.setattr(orderly, "QUIESCE_PAUSE", 0.02)
    monkeypatch.setattr(orderly, "FORCE_AFTER", 0.3)
    busy, release = Event(), Event()

    def listen(_: list[Any], __: Any) -> None:
        busy.set()
        release.wait(5)

    tasks = TaskGroup("test")
    store, send_back = FakeStore(), FakeSendBack()
    service = OrderlyConsumeService(listen, PushConsumerConfig(), store, send_back, None, tasks, StatsRecorder())  # type: ignore[arg-type]
    held = ProcessQueue(monotonic() - 100.0)
    try:
        service.submit(QUEUE, held, messages(0), 1)
        assert busy.wait(5)
        held.dropped = True
        began = monotonic()
        assert not service.quiesce(QUEUE, held)
        wait_for(lambda: service.quiesce(QUEUE, held), timeout=5)
        assert monotonic() - began > 0.3
    finally:
        release.set()
        service.stop(Deadline(1))
        tasks.kill()
