"""What hooks see, and that they change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from grocketmq import (
    ConfigError,
    ConsumeFromWhere,
    ConsumeMessageContext,
    ConsumeStatus,
    FilterMessageContext,
    LitePullConsumer,
    Message,
    MessageError,
    MessageExt,
    Producer,
    PullConsumer,
    PushConsumer,
    SendMessageContext,
    SendMode,
    SendTryContext,
    SimpleConsumer,
)
from grocketmq.codes import RequestCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded.control import fail
from grocketmq.errors import BrokerSystemError, GRocketMQError
from tests.helpers import wait_for

FIRST = ConsumeFromWhere.FIRST_OFFSET
request_id: ContextVar[str] = ContextVar("request_id", default="none")


class Recorder:
    """A hook that keeps what it sees, and the context variable of that moment."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any, str]] = []

    def before_send(self, context: SendMessageContext) -> None:
        context.data[self] = len(self.seen)
        context.message.properties["traceparent"] = "00-1"
        self.seen.append(("before_send", context, request_id.get()))

    def after_send(self, context: SendMessageContext) -> None:
        assert self in context.data
        self.seen.append(("after_send", context, request_id.get()))

    def before_consume(self, context: ConsumeMessageContext) -> None:
        assert context.consumed == 0
        self.seen.append(("before_consume", context, request_id.get()))
        request_id.set("of the hook")

    def after_consume(self, context: ConsumeMessageContext) -> None:
        self.seen.append(("after_consume", context, request_id.get()))

    def names(self) -> list[str]:
        return [name for name, _, _ in self.seen]


class Failing:
    """A hook that fails whenever it can."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_") or name in ("before_request", "after_response"):
            raise AttributeError(name)

        def call(*args: Any) -> Any:
            raise RuntimeError(f"{name} fails")

        return call


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(delay_levels=(0.05,) * 18) as cluster:
        cluster.create_topic("T", queues=1)
        yield cluster


@contextmanager
def producing(cluster: EmbeddedCluster, *hooks: object, **options: Any) -> Iterator[Producer]:
    with Producer("senders", namesrv=cluster.namesrv, hooks=hooks, **options) as producer:
        yield producer


def send_by(producer: Producer, way: str, message: Message) -> None:
    if way == "send":
        producer.send(message)
    elif way == "async":
        producer.send_async(message).get(timeout=5)
    elif way == "oneway":
        producer.send_oneway(message)
    elif way == "orderly":
        producer.send_orderly(message, "key")
    else:
        producer.send_batch([message, Message("T", b"second")])


@pytest.mark.parametrize(
    ("way", "mode"),
    [
        ("send", SendMode.SYNC),
        ("async", SendMode.ASYNC),
        ("oneway", SendMode.ONEWAY),
        ("orderly", SendMode.SYNC),
        ("batch", SendMode.SYNC),
    ],
)
def test_sends_are_seen_in_the_callers_context(cluster: EmbeddedCluster, way: str, mode: SendMode) -> None:
    hook = Recorder()
    with producing(cluster, hook) as producer:
        request_id.set("of the caller")
        send_by(producer, way, Message("T", b"x"))
        wait_for(lambda: len(hook.seen) == 2)
        queue = producer.fetch_publish_queues("T")[0]
        wait_for(lambda: producer.max_offset(queue) > 0)
    (_, before, seen_before), (_, after, seen_after) = hook.seen
    assert hook.names() == ["before_send", "after_send"]
    assert (seen_before, seen_after) == ("of the caller", "of the caller")
    assert before is after
    assert (after.group, after.mode, after.message.body, after.error) == ("senders", mode, b"x", None)
    assert len(after.messages) == (2 if way == "batch" else 1)
    assert (after.result is None) == (way == "oneway")
    with PullConsumer("readers", namesrv=cluster.namesrv) as consumer:
        assert consumer.pull(queue, "*", 0).messages[0].properties["traceparent"] == "00-1"


@pytest.mark.parametrize("way", ["send", "async", "oneway", "batch"])
def test_a_send_that_fails_is_seen_too(cluster: EmbeddedCluster, way: str) -> None:
    hook = Recorder()
    with producing(cluster, hook) as producer, pytest.raises(MessageError) as caught:
        send_by(producer, way, Message("T", b""))
    assert hook.names() == ["before_send", "after_send"]
    assert (hook.seen[1][1].error, hook.seen[1][1].result) == (caught.value, None)


@pytest.mark.parametrize("way", ["send", "async"])
def test_an_error_of_the_broker_is_seen(cluster: EmbeddedCluster, way: str) -> None:
    hook = Recorder()
    with producing(cluster, hook, retries=0) as producer:
        cluster.control(RequestCode.SEND_MESSAGE_V2, fail())
        with pytest.raises(GRocketMQError) as caught:
            send_by(producer, way, Message("T", b"x"))
    assert hook.seen[1][1].error is caught.value


def test_hooks_that_fail_change_nothing(cluster: EmbeddedCluster, caplog: pytest.LogCaptureFixture) -> None:
    got: list[bytes] = []
    consumer = PushConsumer("readers", namesrv=cluster.namesrv, consume_from=FIRST, hooks=[Failing()])
    consumer.subscribe("T")
    consumer.register_listener(lambda msgs: got.extend(msg.body for msg in msgs))
    recorder = Recorder()
    with producing(cluster, Failing(), recorder) as producer, consumer:
        for way in ("send", "async", "oneway", "orderly", "batch"):
            send_by(producer, way, Message("T", way.encode()))
        wait_for(lambda: len(got) == 6)
    assert sorted(got) == [b"async", b"batch", b"oneway", b"orderly", b"second", b"send"]
    assert recorder.names().count("after_send") == 5
    text = caplog.text
    assert all(f"{name} fails" in text for name in ("before_send", "after_send", "before_consume", "after_consume"))
    assert "filter_messages fails" in text


def consuming(cluster: EmbeddedCluster, hook: object, listener: Callable[..., object], **options: Any) -> PushConsumer:
    orderly = options.pop("orderly", False)
    consumer = PushConsumer("readers", namesrv=cluster.namesrv, consume_from=FIRST, hooks=[hook], **options)
    consumer.subscribe("T")
    consumer.register_listener(listener, orderly=orderly)
    return consumer


@pytest.mark.parametrize("orderly", [False, True])
def test_consuming_is_seen_with_how_it_ended(cluster: EmbeddedCluster, orderly: bool) -> None:
    hook = Recorder()
    contexts: list[str] = []

    def listener(msgs: list[MessageExt]) -> None:
        contexts.append(request_id.get())
        if len(contexts) == 1:
            raise ValueError("once")

    with producing(cluster) as producer:
        producer.send(Message("T", b"x"))
    with consuming(cluster, hook, listener, orderly=orderly, suspend_queue_time=0.05):
        wait_for(lambda: len(hook.seen) == 4)
    assert hook.names() == ["before_consume", "after_consume"] * 2
    first, second = hook.seen[1][1], hook.seen[3][1]
    assert (str(first.error), first.success, first.consumed) == ("once", False, 0)
    assert (second.error, second.success, second.consumed) == (None, True, 1)
    assert (second.group, second.messages[0].body, second.seconds >= 0) == ("readers", b"x", True)
    # The listener has the context that the hook before it left.
    assert contexts == ["of the hook"] * 2


def test_a_part_of_a_batch_is_told(cluster: EmbeddedCluster) -> None:
    hook = Recorder()

    def listener(msgs: list[MessageExt], context: Any) -> ConsumeStatus:
        context.ack_index = 0 if len(msgs) > 1 else None
        return ConsumeStatus.SUCCESS

    with producing(cluster) as producer:
        producer.send_batch([Message("T", b"1"), Message("T", b"2"), Message("T", b"3")])
    with consuming(cluster, hook, listener, consume_batch_size=3):
        wait_for(lambda: len(hook.seen) >= 2)
    assert (hook.seen[1][1].consumed, hook.seen[1][1].success) == (1, False)


def keep_odd(context: FilterMessageContext) -> Iterable[MessageExt]:
    assert context.group == "readers"
    return [message for message in context.messages if int(message.body) % 2]


def test_a_filter_keeps_what_it_returns(cluster: EmbeddedCluster) -> None:
    got: list[bytes] = []
    with producing(cluster) as producer:
        producer.send_batch([Message("T", b"%d" % number) for number in range(10)])
        queue = producer.fetch_publish_queues("T")[0]
        hook = SimpleNamespace(filter_messages=keep_odd)
        with consuming(cluster, hook, lambda msgs: got.extend(msg.body for msg in msgs)) as consumer:
            wait_for(lambda: len(got) == 5)
            wait_for(lambda: consumer.stats() is not None)
        assert sorted(got) == [b"1", b"3", b"5", b"7", b"9"]
        with PullConsumer("readers", namesrv=cluster.namesrv, hooks=[hook]) as puller:
            found = puller.pull(queue, "*", 0)
            assert [message.body for message in found.messages] == [b"1", b"3", b"5", b"7", b"9"]
            assert found.next_begin_offset == 10
            wait_for(lambda: puller.fetch_offset(queue) == 10)


def test_a_filter_adds_nothing(cluster: EmbeddedCluster) -> None:
    added = MessageExt("T", b"added")
    hook = SimpleNamespace(filter_messages=lambda context: [*reversed(context.messages), added])
    with producing(cluster) as producer:
        producer.send_batch([Message("T", b"1"), Message("T", b"2")])
        queue = producer.fetch_publish_queues("T")[0]
    with PullConsumer("readers", namesrv=cluster.namesrv, hooks=[hook]) as puller:
        assert [message.body for message in puller.pull(queue, "*", 0).messages] == [b"1", b"2"]


def test_polled_messages_are_seen(cluster: EmbeddedCluster) -> None:
    hook = Recorder()
    with producing(cluster) as producer:
        producer.send(Message("T", b"x"))
    consumer = LitePullConsumer("pollers", namesrv=cluster.namesrv, consume_from=FIRST, hooks=[hook])
    consumer.subscribe("T")
    with consumer:
        assert consumer.poll(20)
    assert hook.names() == ["before_consume", "after_consume"]
    assert hook.seen[1][1].success


def test_received_messages_are_seen(cluster: EmbeddedCluster) -> None:
    hook = Recorder()
    with producing(cluster) as producer:
        producer.send(Message("T", b"x"))
    consumer = SimpleConsumer("receivers", namesrv=cluster.namesrv, consume_from=FIRST, hooks=[hook])
    consumer.subscribe("T")
    with consumer:
        assert consumer.receive(wait=5.0)
    assert hook.names() == ["before_consume", "after_consume"]
    told = hook.seen[1][1]
    assert (told.group, told.messages[0].body, told.success) == ("receivers", b"x", True)


def test_messages_that_wait_for_a_reply_are_seen(cluster: EmbeddedCluster) -> None:
    """What a hook adds to them travels too."""
    hook = Recorder()
    with producing(cluster, hook) as producer:
        job = gevent.spawn(producer.request, Message("T", b"x"), 10.0)
        wait_for(lambda: len(hook.seen) == 2)
        job.kill()  # nobody will reply
        with pytest.raises(MessageError):
            producer.request(Message("T", b""), 10.0)
        queue = producer.fetch_publish_queues("T")[0]
    assert hook.names() == ["before_send", "after_send"] * 2
    assert hook.seen[1][1].result.message_queue == queue
    assert isinstance(hook.seen[3][1].error, MessageError)
    with PullConsumer("readers", namesrv=cluster.namesrv) as consumer:
        [request] = consumer.pull(queue, "*", 0).messages
    assert request.properties["traceparent"] == "00-1"
    assert "CORRELATION_ID" in request.properties


def test_requests_and_answers_are_seen(cluster: EmbeddedCluster) -> None:
    codes: list[tuple[str, int]] = []
    hook = SimpleNamespace(
        before_request=lambda address, request: codes.append(("before", request.code)),
        after_response=lambda address, request, response: codes.append(("after", request.code)),
    )
    with producing(cluster, hook) as producer:
        producer.send(Message("T", b"x"))
    assert [one for one in codes if one[1] == RequestCode.SEND_MESSAGE_V2] == [("before", 310), ("after", 310)]


def test_tries_are_seen_one_by_one(cluster: EmbeddedCluster) -> None:
    tries: list[SendTryContext] = []
    with producing(cluster, SimpleNamespace(after_try=tries.append), retries=2) as producer:
        cluster.control(RequestCode.SEND_MESSAGE_V2, fail(), times=2)
        queue = producer.send(Message("T", b"x")).message_queue
        with pytest.raises(MessageError):
            producer.send(Message("T", b""))
    assert [type(one.error) for one in tries] == [BrokerSystemError, BrokerSystemError, type(None)]
    assert [(one.group, one.message_queue) for one in tries] == [("senders", queue)] * 3
    assert all(0 < one.seconds < 5 for one in tries)


@pytest.mark.parametrize("hook", [object(), SimpleNamespace(before_request=print), SimpleNamespace(on_send=print)])
def test_what_is_no_hook(hook: object) -> None:
    with pytest.raises(ConfigError, match="hook"):
        Producer("senders", namesrv="127.0.0.1:1", hooks=[hook])


def test_a_refused_hook_is_told_every_method() -> None:
    with pytest.raises(ConfigError, match="after_response, after_connect"):
        Producer("senders", namesrv="127.0.0.1:1", hooks=[object()])


@pytest.mark.parametrize("others", [{}, {"after_send": lambda context: None}])
def test_connections_are_seen_whatever_else_is(cluster: EmbeddedCluster, others: dict[str, Any]) -> None:
    seen: list[tuple[str, object]] = []
    hook = SimpleNamespace(after_connect=lambda address, seconds, error: seen.append((address, error)), **others)
    with producing(cluster, hook) as producer:
        producer.send(Message("T", b"x"))
    assert (cluster.namesrv, None) in seen
    assert len(seen) == 2


@pytest.mark.parametrize("orderly", [False, True])
def test_a_timeout_of_a_hook_around_a_listener_changes_nothing(
    cluster: EmbeddedCluster, orderly: bool, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[bytes] = []

    def late(context: ConsumeMessageContext) -> None:
        raise gevent.Timeout()  # without seconds, so there is no timer to close

    with producing(cluster) as producer:
        producer.send(Message("T", b"x"))
        queue = producer.fetch_publish_queues("T")[0]
    hook = SimpleNamespace(before_consume=late, after_consume=late)
    listener = lambda msgs: got.extend(msg.body for msg in msgs)  # noqa: E731
    with consuming(cluster, hook, listener, orderly=orderly, suspend_queue_time=0.05):
        wait_for(lambda: got)
    assert got == [b"x"]
    assert caplog.text.count("what it looked at goes on") == 2
    with PullConsumer("readers", namesrv=cluster.namesrv) as reader:
        assert reader.fetch_offset(queue) == 1


def test_a_timeout_of_the_caller_ends_the_send_and_is_seen(cluster: EmbeddedCluster) -> None:
    hook = Recorder()
    with producing(cluster, hook) as producer:
        producer.fetch_publish_queues("T")
        cluster.control(RequestCode.SEND_MESSAGE_V2, lambda taken: None, times=None)
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
            producer.send(Message("T", b"x"))
    assert isinstance(hook.seen[1][1].error, gevent.Timeout)


@pytest.mark.parametrize("kind", [Producer, PushConsumer, PullConsumer, LitePullConsumer, SimpleConsumer])
def test_starts_are_told(cluster: EmbeddedCluster, kind: Any) -> None:
    started: list[object] = []
    client = kind("g", namesrv=cluster.namesrv, hooks=[SimpleNamespace(before_start=started.append)])
    if hasattr(client, "subscribe"):
        client.subscribe("T")
    if kind is PushConsumer:
        client.register_listener(lambda msgs: None)
    assert not started
    with client:
        assert started == [client]
