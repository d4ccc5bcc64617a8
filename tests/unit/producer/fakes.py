"""Producers whose brokers are functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from grocketmq.model.results import SendResult, SendStatus
from grocketmq.model.route import MessageQueue
from grocketmq.producer import Producer
from grocketmq.runtime.deadline import Deadline
from tests.unit.client.fakes import NAMESRV, FakeAPI, FakeInstance, FakeManager, give

#: ``(queue, seconds for the try) -> None, a SendStatus, or an error``.
Broker = Callable[[MessageQueue, float], object]


class Brokers:
    """Answers sends by broker name; who is not listed stores the message."""

    def __init__(self, **behaviour: object) -> None:
        self.behaviour = behaviour
        self.tries: list[tuple[MessageQueue, float]] = []
        self.stored: list[tuple[MessageQueue, str]] = []
        self.api = FakeAPI(send=self.send)

    @property
    def asked(self) -> list[str]:
        """The brokers tried, in order."""
        return [queue.broker_name for queue, _ in self.tries]

    def send(self, address: str, command: Any, queue: MessageQueue, msg_id: str, deadline: Deadline) -> SendResult:
        seconds = deadline.remaining()
        self.tries.append((queue, seconds))
        answer = give(self.behaviour.get(queue.broker_name), queue, seconds)
        status = answer if isinstance(answer, SendStatus) else SendStatus.SEND_OK
        self.stored.append((queue, msg_id))
        return SendResult(status, msg_id, "0" * 32, queue, len(self.stored) - 1)


@contextmanager
def producer_with(brokers: Brokers, *, routes: dict[str, Any], **options: Any) -> Iterator[Producer]:
    """A started producer, and its fake instance in ``producer._instance``."""
    producer = Producer("p", namesrv=NAMESRV, **options)
    producer.bind(FakeManager(FakeInstance(brokers.api, **routes)))  # type: ignore[arg-type]
    with producer:
        yield producer
