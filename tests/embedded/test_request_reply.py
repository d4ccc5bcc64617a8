"""Request and reply, in both roles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent.event import Event

from grocketmq import (
    ClientStateError,
    ConnectionLostError,
    ConsumeFromWhere,
    Message,
    MessageError,
    MessageExt,
    MessageQueue,
    Producer,
    PushConsumer,
    RequestReplyTimeout,
    SendError,
    create_reply,
)
from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded.control import Intercepted, answer, close, drop
from tests.helpers import wait_for

REPLIES = RequestCode.SEND_REPLY_MESSAGE_V2


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster() as cluster:
        cluster.create_topic("T")
        yield cluster


@pytest.fixture
def requester(cluster: EmbeddedCluster) -> Iterator[Producer]:
    with Producer("requesters", namesrv=cluster.namesrv, instance_name="requester") as producer:
        yield producer


def twice(msg: MessageExt) -> bytes:
    return msg.body * 2


@contextmanager
def replying(
    cluster: EmbeddedCluster, work: Callable[[MessageExt], bytes | None] = twice, **options: Any
) -> Iterator[Producer]:
    """A consumer that replies with what ``work`` returns, over a producer of the same instance."""
    common = {"namesrv": cluster.namesrv, "instance_name": "replier"}
    with Producer("repliers", **common, **options) as producer:

        def listen(msgs: list[MessageExt]) -> None:
            for msg in msgs:
                body = work(msg)
                if body is not None:
                    producer.send(create_reply(msg, body))

        consumer = PushConsumer("workers", consume_from=ConsumeFromWhere.FIRST_OFFSET, **common)  # type: ignore[arg-type]
        consumer.subscribe("T")
        consumer.register_listener(listen)
        with consumer:
            yield producer


def test_a_request_gets_its_reply(cluster: EmbeddedCluster, requester: Producer) -> None:
    asked: list[MessageExt] = []
    with replying(cluster, lambda msg: asked.append(msg) or twice(msg)):
        msg = Message("T", b"ab", tags="t", keys="k")
        reply = requester.request(msg, 10.0)
    assert (reply.body, reply.topic) == (b"abab", "DefaultCluster_REPLY_TOPIC")
    [request] = asked
    assert (request.tags, request.keys, request.properties["REPLY_TO_CLIENT"]) == ("t", "k", requester.client_id)
    assert 9000 < int(request.properties["TTL"]) <= 10_000
    assert reply.properties["CORRELATION_ID"] == request.properties["CORRELATION_ID"]
    assert reply.born_host.startswith("127.0.0.1:")
    assert not {"CORRELATION_ID", "REPLY_TO_CLIENT", "TTL"} & msg.properties.keys(), "the caller's message is as it was"


def test_in_one_instance(cluster: EmbeddedCluster) -> None:
    """The one that asks and the one that replies share a connection."""
    with replying(cluster) as producer:
        assert producer.request(Message("T", b"ab"), 10.0).body == b"abab"


def test_replies_are_packed_when_they_are_large(cluster: EmbeddedCluster, requester: Producer) -> None:
    for kind in ("zlib", "lz4", "zstd"):
        with replying(cluster, lambda msg: b"x" * 100_000, compression=kind):
            assert requester.request(Message("T", b"ab"), 10.0).body == b"x" * 100_000


def test_to_a_queue_of_ones_choice(cluster: EmbeddedCluster, requester: Producer) -> None:
    with replying(cluster, lambda msg: b"%d" % msg.queue_id):
        queue = MessageQueue("T", "broker-a", 2)
        assert requester.request(Message("T", b"x"), 10.0, queue=queue).body == b"2"
        assert requester.request(Message("T", b"x"), 10.0, selector=lambda queues, msg, arg: queues[arg], arg=3).body == b"3"  # type: ignore[call-overload]


def test_many_requests_at_once(cluster: EmbeddedCluster, requester: Producer) -> None:
    def ask(first: int) -> None:
        for number in range(first, 2_000, 1_000):
            body = b"%d " % number
            assert requester.request(Message("T", body), 40.0).body == body * 2

    with replying(cluster):
        asking = [gevent.spawn(ask, first) for first in range(1_000)]
        gevent.joinall(asking, timeout=50.0, raise_error=True)
        assert all(one.successful() for one in asking)
    assert nothing_waits(requester)


def nothing_waits(requester: Producer) -> bool:
    return not requester._instance.replies and not requester._requests._waiting


# -- no reply


def test_no_reply_in_time(cluster: EmbeddedCluster, requester: Producer) -> None:
    with replying(cluster, lambda msg: None):
        requester.send(Message("T", b"warm"))
        began = monotonic()
        with pytest.raises(RequestReplyTimeout, match="of topic T"):
            requester.request(Message("T", b"x"), 0.3)
        assert 0.25 < monotonic() - began < 1.5
    assert nothing_waits(requester)
    assert issubclass(RequestReplyTimeout, TimeoutError)


def test_timeouts_of_many_leave_nothing_behind(cluster: EmbeddedCluster, requester: Producer) -> None:
    requester.fetch_publish_queues("T")  # else the time may be over before there is a route

    def ask() -> None:
        with pytest.raises(RequestReplyTimeout):
            requester.request(Message("T", b"x"), 1.0)

    gevent.joinall([gevent.spawn(ask) for _ in range(100)], timeout=20.0, raise_error=True)
    assert nothing_waits(requester)


@pytest.mark.parametrize("way", ["kill", "timeout"])
def test_a_caller_that_leaves_leaves_nothing_behind(way: str, cluster: EmbeddedCluster, requester: Producer) -> None:
    def ask() -> None:
        with gevent.Timeout(0.1 if way == "timeout" else None, False):
            requester.request(Message("T", b"x"), 10.0)

    asking = gevent.spawn(ask)
    wait_for(lambda: len(requester._instance.replies) == 1)
    if way == "kill":
        asking.kill()
    asking.join(5.0)
    assert nothing_waits(requester)


def test_a_late_reply_is_dropped(cluster: EmbeddedCluster, requester: Producer, caplog: pytest.LogCaptureFixture) -> None:
    go = Event()
    with replying(cluster, lambda msg: go.wait() and b"late"):
        with pytest.raises(RequestReplyTimeout):
            requester.request(Message("T", b"x"), 0.2)
        go.set()
        wait_for(lambda: "came too late" in caplog.text)
        assert requester.request(Message("T", b"y"), 10.0).body == b"late"


def test_a_reply_that_comes_twice(cluster: EmbeddedCluster, requester: Producer, caplog: pytest.LogCaptureFixture) -> None:
    with replying(cluster) as replier:

        def both(taken: Intercepted) -> None:
            taken.serve()
            taken.serve()

        cluster.control(REPLIES, both)
        assert requester.request(Message("T", b"ab"), 10.0).body == b"abab"
        wait_for(lambda: "or twice" in caplog.text or len(requester._instance.replies) == 0)
        assert replier.request(Message("T", b"cd"), 10.0).body == b"cdcd"


def test_a_request_that_cannot_be_sent(cluster: EmbeddedCluster) -> None:
    with Producer("requesters", namesrv=cluster.namesrv, retries=0) as requester:
        cluster.control(RequestCode.SEND_MESSAGE_V2, answer(ResponseCode.SYSTEM_BUSY, "busy"))
        with pytest.raises(SendError, match="busy"):
            requester.request(Message("T", b"x"), 10.0)
        assert nothing_waits(requester)


def test_a_request_whose_acknowledgement_is_lost(cluster: EmbeddedCluster, requester: Producer) -> None:
    """The reply comes all the same, and that is what counts."""

    def serve_silently(taken: Intercepted) -> None:
        taken.request.flag |= 2
        taken.serve()

    with replying(cluster):
        cluster.control(RequestCode.SEND_MESSAGE_V2, serve_silently, times=None, matches=lambda request: request.body == b"ab")
        assert requester.request(Message("T", b"ab"), 1.5, queue=MessageQueue("T", "broker-a", 0)).body == b"abab"


def test_shutdown_ends_those_who_wait(cluster: EmbeddedCluster) -> None:
    requester = Producer("requesters", namesrv=cluster.namesrv)
    requester.start()

    def ask() -> None:
        with pytest.raises(ClientStateError, match="before the reply"):
            requester.request(Message("T", b"x"), 30.0)

    asking = gevent.spawn(ask)
    wait_for(lambda: len(requester._instance.replies) == 1)
    requester.shutdown(0.1)
    asking.get(timeout=5.0)
    with pytest.raises(ClientStateError):
        requester.request(Message("T", b"x"), 1.0)


# -- brokers that must know the requester


def test_a_reply_through_another_broker() -> None:
    """The topic is at one broker, the reply may go through any; each of them knows the requester before it asks."""
    with EmbeddedCluster(brokers=3) as cluster:
        cluster.create_topic("T", brokers=["broker-b"])
        with replying(cluster, retries=0), Producer("r", namesrv=cluster.namesrv, instance_name="r") as requester:
            for number in range(12):
                assert requester.request(Message("T", b"%d" % number), 10.0).body == b"%d" % number * 2


def test_after_a_lost_connection(cluster: EmbeddedCluster, requester: Producer) -> None:
    """A broker knows a client by its connection: the next request tells it of the new one."""
    with replying(cluster):
        assert requester.request(Message("T", b"ab"), 10.0).body == b"abab"
        cluster.control(RequestCode.GET_MAX_OFFSET, close)
        with pytest.raises(ConnectionLostError):
            requester.max_offset(MessageQueue("T", "broker-a", 0))
        assert requester.request(Message("T", b"cd"), 10.0).body == b"cdcd"


def test_after_another_producer_of_the_instance_has_left(cluster: EmbeddedCluster, requester: Producer) -> None:
    """A broker forgets the client when any of its groups leaves, and does not note it again with a heartbeat."""
    with replying(cluster):
        with Producer("others", namesrv=cluster.namesrv, instance_name="requester") as other:
            assert other.request(Message("T", b"ab"), 10.0).body == b"abab"
            waiting = gevent.spawn(requester.request, Message("T", b"x" * 3), 10.0)
            waiting.join(5.0)
        assert requester.client_id not in cluster.brokers["broker-a"].clients.client_channels
        assert requester.request(Message("T", b"ab"), 10.0).body == b"abab"
        assert requester.request(Message("T", b"cd"), 10.0).body == b"cdcd"


def test_a_silent_broker_holds_up_a_request_for_a_second_at_most() -> None:
    with EmbeddedCluster(brokers=2) as cluster:
        cluster.create_topic("T", brokers=["broker-a"])
        cluster.control(RequestCode.HEART_BEAT, drop, times=None, at="broker-b")
        with replying(cluster), Producer("r", namesrv=cluster.namesrv, instance_name="r") as requester:
            began = monotonic()
            assert requester.request(Message("T", b"ab"), 20.0).body == b"abab"
            assert monotonic() - began < 15.0


# -- the replying side


@pytest.mark.parametrize("missing", ["CLUSTER", "CORRELATION_ID", "REPLY_TO_CLIENT"])
def test_a_message_that_asks_for_no_reply(missing: str) -> None:
    names = {"CLUSTER": "C", "CORRELATION_ID": "1", "REPLY_TO_CLIENT": "me", "TTL": "1000"}
    reply = create_reply(MessageExt("T", b"x", properties=names), "text")
    assert (reply.topic, reply.body, reply.properties["MSG_TYPE"]) == ("C_REPLY_TOPIC", b"text", "reply")
    with pytest.raises(MessageError, match=missing):
        create_reply(MessageExt("T", b"x", properties={name: names[name] for name in names if name != missing}), b"x")


def test_a_reply_to_nobody_is_an_error_for_the_replier(cluster: EmbeddedCluster) -> None:
    names = {"CLUSTER": "DefaultCluster", "CORRELATION_ID": "1", "REPLY_TO_CLIENT": "gone", "TTL": "1000"}
    with Producer("repliers", namesrv=cluster.namesrv) as replier, pytest.raises(SendError, match="gone"):
        replier.send(create_reply(MessageExt("T", b"x", properties=names), b"x"), timeout=1.0)


def test_replies_travel_alone(cluster: EmbeddedCluster, requester: Producer) -> None:
    names = {"CLUSTER": "DefaultCluster", "CORRELATION_ID": "1", "REPLY_TO_CLIENT": "gone"}
    reply = create_reply(MessageExt("T", b"x", properties=names), b"x")
    with pytest.raises(MessageError, match="a reply"):
        requester.send_batch([reply])
    with pytest.raises(MessageError, match="empty"):
        requester.send(create_reply(MessageExt("T", b"x", properties=names), b""))


def test_a_push_that_cannot_be_read_is_refused(cluster: EmbeddedCluster, requester: Producer) -> None:
    """The broker hears of it, the connection stays, and the next reply comes."""
    with replying(cluster, lambda msg: b"x" * 50_000):

        def spoil(taken: Intercepted) -> None:
            taken.request.body = b"no zlib"
            taken.serve()

        cluster.control(REPLIES, spoil, times=3)
        with pytest.raises(RequestReplyTimeout):
            requester.request(Message("T", b"x"), 1.0)
        assert len(requester.request(Message("T", b"x"), 10.0).body) == 50_000
