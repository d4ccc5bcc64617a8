"""The surroundings of a consumer's parts; each part is put together in one place here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from grocketmq.client.api import PullAnswer
from grocketmq.consumer.allocate import AllocateAveragely
from grocketmq.consumer.concurrently import ConcurrentConsumeService
from grocketmq.consumer.config import PushConsumerConfig
from grocketmq.consumer.flow_control import FlowControl
from grocketmq.consumer.listener import adapt_listener
from grocketmq.consumer.membership import Membership
from grocketmq.consumer.process_queue import ProcessQueue
from grocketmq.consumer.pull_request import PullRequest
from grocketmq.consumer.pull_service import PullService
from grocketmq.consumer.puller import PullOptions
from grocketmq.consumer.rebalance import Rebalance
from grocketmq.consumer.stats import StatsRecorder
from grocketmq.consumer.subscriptions import Subscriptions
from grocketmq.model.message import MessageExt
from grocketmq.model.results import PullResult, PullStatus
from grocketmq.model.route import MessageQueue
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire.pull_command import PullFields
from tests.helpers import wait_for
from tests.unit.client.fakes import Answer, FakeAPI, FakeInstance, give, route

QUEUE = MessageQueue("T", "a", 0)
#: Stands for a next pull without any pause.
AT_ONCE = 0.125


def messages(*offsets: int, topic: str = "T", **options: Any) -> list[MessageExt]:
    return [
        MessageExt(topic, b"x", queue_offset=offset, broker_name="a", commit_log_offset=offset * 100, **options)
        for offset in offsets
    ]


def answer(status: PullStatus = PullStatus.FOUND, next_offset: int = 10, body: bytes = b"", **options: int) -> PullAnswer:
    values = {"min_offset": 0, "max_offset": 100, "suggest_which_broker_id": 0, "offset_delta": 0, **options}
    return PullAnswer(status, PullFields(next_begin_offset=next_offset, **values), body)


class FakeStore:
    """Offsets, and every call in order."""

    def __init__(self, stored: dict[MessageQueue, int] | None = None) -> None:
        self.stored = stored or {}
        self.memory: dict[MessageQueue, int] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.fails: Exception | None = None

    def read(self, queue: MessageQueue) -> int | None:
        if self.fails is not None:
            raise self.fails
        return self.stored.get(queue)

    def in_memory(self, queue: MessageQueue) -> int | None:
        return self.memory.get(queue)

    def update(self, queue: MessageQueue, offset: int, *, increase_only: bool) -> None:
        self.calls.append(("update", queue, offset, increase_only))
        if not increase_only or offset > self.memory.get(queue, -1):
            self.memory[queue] = offset

    def update_and_freeze(self, queue: MessageQueue, offset: int) -> None:
        self.calls.append(("freeze", queue, offset))
        self.memory[queue] = offset

    def persist_one(self, queue: MessageQueue) -> bool:
        self.calls.append(("persist", queue))
        return self.fails is None

    def persist(self, queues: Iterable[MessageQueue]) -> None:
        self.calls.append(("persist all", *queues))

    def remove(self, queue: MessageQueue) -> None:
        self.calls.append(("remove", queue))
        self.memory.pop(queue, None)


class FakeSendBack:
    """Takes messages back, unless its answers say otherwise."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)
        self.sent: list[tuple[int, int]] = []
        self.reconsume_times: list[int] = []

    def try_send(self, message: MessageExt, delay_level: int) -> bool:
        self.sent.append((message.queue_offset, delay_level))
        self.reconsume_times.append(message.reconsume_times)
        return self.answers.pop(0) if self.answers else True


class Consuming:
    """A concurrent consume service with all it needs."""

    def __init__(self, listener: Any, send_back: FakeSendBack, settings: PushConsumerConfig) -> None:
        self.store = FakeStore()
        self.send_back = send_back
        self.tasks = TaskGroup("test")
        self.recorder = StatsRecorder()
        self.held = ProcessQueue(0.0)
        self.service = ConcurrentConsumeService(
            adapt_listener(listener),
            settings,
            self.store,  # type: ignore[arg-type]
            send_back,  # type: ignore[arg-type]
            self.tasks,
            self.recorder,
        )

    def submit(self, *offsets: int, queue: MessageQueue = QUEUE, **options: Any) -> list[MessageExt]:
        """Have messages consumed."""
        pulled = messages(*offsets, **options)
        self.service.submit(queue, self.held, pulled, offsets[-1] + 1)
        return pulled

    def done(self) -> int | None:
        """Wait until all is done: the offset reached."""
        wait_for(lambda: not self.held.count)
        return self.offset

    @property
    def offset(self) -> int | None:
        return self.store.in_memory(QUEUE)

    @property
    def counts(self) -> Any:
        return self.recorder.topic(QUEUE.topic)


@contextmanager
def consuming(listener: Any, send_back: FakeSendBack | None = None, **settings: Any) -> Iterator[Consuming]:
    made = Consuming(listener, send_back or FakeSendBack(), PushConsumerConfig(**settings))
    try:
        yield made
    finally:
        made.service.stop(Deadline(0.5))
        made.tasks.kill()


class FakeConsuming:
    """Takes messages and holds no queue back, unless told so."""

    def __init__(self) -> None:
        self.submitted: list[list[int]] = []
        self.pause = 0.0
        self.events: list[tuple[str, MessageQueue]] = []
        self.refused: set[MessageQueue] = set()
        self.busy: set[MessageQueue] = set()

    def submit(self, queue: MessageQueue, process_queue: ProcessQueue, pulled: list[MessageExt], max_offset: int) -> None:
        process_queue.put(pulled, max_offset)
        self.submitted.append([message.queue_offset for message in pulled])

    def pull_pause(self, process_queue: ProcessQueue) -> float:
        return self.pause

    def acquire(self, queue: MessageQueue) -> bool:
        return queue not in self.refused

    def quiesce(self, queue: MessageQueue, process_queue: ProcessQueue) -> bool:
        return queue not in self.busy

    def release(self, queue: MessageQueue) -> None:
        self.events.append(("release", queue))


class NotedPulls(PullService):
    """Notes when each request would be due again, and does not pull it again by itself."""

    def __init__(self, *args: Any) -> None:
        self.pauses: list[float] = []
        super().__init__(*args)

    def put(self, request: PullRequest, pause: float = 0.0) -> None:
        self.pauses.append(pause)


class Pulls:
    """A pull service over a puller that is a function ``(subscription, offset, reached) -> answer``."""

    def __init__(self, pull: Answer = None, expression: str = "*", **settings: Any) -> None:
        self.answer = pull
        self.asked: list[tuple[int, int | None]] = []
        self.illegal: list[tuple[MessageQueue, int]] = []
        self.settings = PushConsumerConfig(**settings)
        self.instance = FakeInstance(FakeAPI(), T=route("a"))
        self.subscriptions = Subscriptions()
        self.subscriptions.add("T", expression)
        self.store, self.consuming, self.stats = FakeStore(), FakeConsuming(), StatsRecorder()
        self.tasks = TaskGroup("test")
        self.held = ProcessQueue(0.0)
        self.request = PullRequest(QUEUE, self.held, 5)
        self.queues = {QUEUE: self.held}
        self.service = NotedPulls(
            Membership("g", self.instance, self.settings, self.subscriptions, self.tasks, self.stats),  # type: ignore[arg-type]
            self,
            PullOptions(max_nums=32, hold=15.0, timeout=30.0, store_offset=True),
            FlowControl(self.settings, self.queues),
            self.store,
            self.consuming,
            lambda queue, offset: self.illegal.append((queue, offset)),
        )

    def pull(self, queue: MessageQueue, subscription: Any, offset: int, options: Any, reached: int | None) -> PullResult:
        self.asked.append((offset, reached))
        self.consuming.pause = AT_ONCE  # else it would pull for ever
        return give(self.answer)

    def once(self) -> float:
        """One pull at most: the seconds before the next one, ``AT_ONCE`` for none."""
        before = len(self.service.pauses)
        self.service._requests.put(self.request)
        wait_for(lambda: len(self.service.pauses) > before)
        self.consuming.pause = 0.0
        return self.service.pauses[-1]

    def dropped_once(self) -> None:
        """A pull that its request does not survive."""
        before = len(self.service.pauses)
        self.service._requests.put(self.request)
        wait_for(lambda: self.service._requests.empty() and self.tasks.names() == ["test:pull service"])
        assert self.held.dropped
        assert len(self.service.pauses) == before


@contextmanager
def pulls(*args: Any, **settings: Any) -> Iterator[Pulls]:
    made = Pulls(*args, **settings)
    try:
        yield made
    finally:
        made.service.stop()
        made.tasks.kill()


class Balance:
    """A rebalance of group "g" at client "me", its topic at two brokers with two queues each."""

    def __init__(self, *members: str, stored: dict[MessageQueue, int] | None = None) -> None:
        self.api = FakeAPI(consumer_ids=lambda *_: list(members))
        self.instance = FakeInstance(self.api, T=route("a", "b"))
        self.subscriptions = Subscriptions()
        self.subscriptions.add("T", "*")
        self.store = FakeStore(stored)
        self.consuming = FakeConsuming()
        self.pulled: list[tuple[MessageQueue, int, float]] = []
        self.start: Callable[[MessageQueue], int] = lambda queue: self.store.read(queue) or 0
        self.rebalance = Rebalance(
            "g",
            self.instance,  # type: ignore[arg-type]
            {},
            self.subscriptions,
            AllocateAveragely(),
            self.store,  # type: ignore[arg-type]
            self.consuming,  # type: ignore[arg-type]
            lambda queue: self.start(queue),
            lambda request, pause: self.pulled.append((request.queue, request.next_offset, pause)),
        )
        self.rebalance.start()

    def members(self, *members: str) -> None:
        self.api.answers["consumer_ids"] = lambda *_: list(members)

    @property
    def queues(self) -> list[str]:
        """The queues it has, as ``broker + number``."""
        return sorted(f"{queue.broker_name}{queue.queue_id}" for queue in self.rebalance.process_queues)
