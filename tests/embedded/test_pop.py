"""POP on the embedded cluster: by the clients, and raw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest

from grocketmq import ConsumeFromWhere, Message, MessageExt, Producer, PushConsumer, SimpleConsumer, Sql
from grocketmq.codes import RequestCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.wire import bodies, headers
from grocketmq.wire.bodies import MessageRequestMode, QueryAssignmentRequestBody, SetMessageRequestModeRequestBody
from grocketmq.wire.message_codec import decode_messages
from tests.embedded.raw import GROUP, TOPIC, RawClient, names, pop_header
from tests.helpers import wait_for

FIRST = ConsumeFromWhere.FIRST_OFFSET
#: Seconds.  A try gets a third of it: one that is cut off while the machine stands still stores its message twice, and these
#: tests count messages.
SEND_TIMEOUT = 60.0


def popped(raw: RawClient, **more: Any) -> list[MessageExt]:
    return decode_messages(raw.pop(**more).body or b"")


@contextmanager
def popping(cluster: EmbeddedCluster, listener: Callable[..., object], **options: Any) -> Iterator[PushConsumer]:
    options.setdefault("pop_invisible_time", 60.0)
    expression = options.pop("expression", "*")
    consumer = PushConsumer(options.pop("group", "g"), namesrv=cluster.namesrv, consume_from=FIRST, pop=True, **options)
    consumer.subscribe("T", expression)
    consumer.register_listener(listener)
    with consumer:
        yield consumer


@pytest.fixture
def producer(cluster: EmbeddedCluster) -> Iterator[Producer]:
    with Producer("p", namesrv=cluster.namesrv, send_timeout=SEND_TIMEOUT) as producer:
        producer.create_topic("T", 4)
        yield producer


@contextmanager
def receiving(cluster: EmbeddedCluster, **options: Any) -> Iterator[SimpleConsumer]:
    with SimpleConsumer("g", namesrv=cluster.namesrv, consume_from=FIRST, **options) as consumer:
        consumer.subscribe("T")
        yield consumer


def receive(consumer: SimpleConsumer, count: int) -> list[MessageExt]:
    found: list[MessageExt] = []
    while len(found) < count:
        found += consumer.receive(count - len(found), 60.0, wait=5.0)
    return found


def out(cluster: EmbeddedCluster) -> int:
    """How many messages are handed out and not acknowledged."""
    return sum(len(offsets) for broker in cluster.brokers.values() for offsets in broker.check_points.popped.values())


def test_everything_is_consumed_once(cluster: EmbeddedCluster, producer: Producer) -> None:
    got: dict[str, list[bytes]] = {"all": [], "even": [], "few": []}

    def keep(name: str) -> Callable[[list[MessageExt]], None]:
        return lambda msgs: got[name].extend(msg.body for msg in msgs)

    with (
        popping(cluster, keep("all"), group="all", instance_name="a"),
        popping(cluster, keep("even"), group="even", expression="even", instance_name="b"),
        popping(cluster, keep("few"), group="few", expression=Sql("number < 5"), instance_name="c"),
    ):
        bodies_sent = [b"%d" % number for number in range(100)]
        for number, body in enumerate(bodies_sent):
            producer.send(Message("T", body, tags="odd" if number % 2 else "even", properties={"number": str(number)}))
        wait_for(lambda: len(got["all"]) == 100 and len(got["even"]) == 50 and len(got["few"]) == 5, timeout=15)
        wait_for(lambda: out(cluster) == 0, timeout=10)
        cluster.clock.advance(61)
        gevent.sleep(0.1)
        assert Counter(got["all"]) == Counter(bodies_sent)
        assert Counter(got["even"]) == Counter(bodies_sent[::2])
        assert Counter(got["few"]) == Counter(bodies_sent[:5])


def test_members_share_the_messages_of_a_queue(cluster: EmbeddedCluster) -> None:
    cluster.create_topic("T", queues=1)
    got: list[list[bytes]] = [[], [], []]

    def keep(number: int) -> Callable[[list[MessageExt]], None]:
        def listener(msgs: list[MessageExt]) -> None:
            gevent.sleep(0.01)
            got[number].extend(msg.body for msg in msgs)

        return listener

    with (
        popping(cluster, keep(0), instance_name="0", pop_batch_size=4),
        popping(cluster, keep(1), instance_name="1", pop_batch_size=4),
        popping(cluster, keep(2), instance_name="2", pop_batch_size=4),
        Producer("p", namesrv=cluster.namesrv, send_timeout=SEND_TIMEOUT) as producer,
    ):
        for number in range(150):
            producer.send(Message("T", b"%d" % number))
        wait_for(lambda: sum(map(len, got)) >= 150, timeout=15)
        assert Counter(body for part in got for body in part) == Counter(b"%d" % number for number in range(150))
        assert all(got)


@pytest.mark.parametrize("version", [1, 2])
def test_what_is_not_acknowledged_comes_again(version: int) -> None:
    """Through either form of retry topic: one is acknowledged, one kept longer, one forgotten."""
    with (
        EmbeddedCluster(retry_topic_v2=version == 2, client_expiry=1e6) as cluster,
        Producer("p", namesrv=cluster.namesrv, send_timeout=SEND_TIMEOUT) as producer,
        receiving(cluster) as consumer,
    ):
        producer.create_topic("T", 4)
        for body in (b"acknowledged", b"kept", b"forgotten"):
            producer.send(Message("T", body, tags="a", keys="k", properties={"own": "kept"}))
        first = {msg.body: msg for msg in receive(consumer, 3)}
        consumer.ack(first[b"acknowledged"])
        consumer.change_invisible(first[b"kept"], 200.0)
        cluster.clock.advance(61)
        (forgotten,) = receive(consumer, 1)
        assert forgotten.body == b"forgotten"
        assert (forgotten.topic, forgotten.tags, forgotten.keys, forgotten.reconsume_times) == ("T", "a", "k", 1)
        assert forgotten.properties["POP_CK"].split()[4] == str(version)
        assert forgotten.properties["1ST_POP_TIME"] == first[b"forgotten"].properties["1ST_POP_TIME"]
        assert forgotten.msg_id == first[b"forgotten"].msg_id
        cluster.clock.advance(61)
        (again,) = receive(consumer, 1)
        assert (again.body, again.reconsume_times) == (b"forgotten", 2)
        consumer.ack(again)
        cluster.clock.advance(100)
        (kept,) = receive(consumer, 1)
        assert kept.body == b"kept"
        consumer.ack(kept)
        cluster.clock.advance(300)
        assert consumer.receive(wait=0.2) == []
        assert out(cluster) == 0


def test_a_failed_message_comes_again_when_its_delay_is_over(cluster: EmbeddedCluster, producer: Producer) -> None:
    tries: list[int] = []

    def listener(msgs: list[MessageExt]) -> None:
        tries.extend(msg.reconsume_times for msg in msgs)
        if tries[-1] < 2:
            raise RuntimeError("not yet")

    with popping(cluster, listener):
        producer.send(Message("T", b"x"))
        for number in range(2):
            wait_for(lambda number=number: len(tries) == number + 1, timeout=10)
            wait_for(lambda: any(point == 1 for point in map(len, cluster.brokers["broker-a"].check_points.popped.values())))
            gevent.sleep(0.1)
            cluster.clock.advance(31)
        wait_for(lambda: tries == [0, 1, 2], timeout=10)
        wait_for(lambda: out(cluster) == 0)


def test_a_stale_acknowledgement_changes_nothing(raw: RawClient, cluster: EmbeddedCluster) -> None:
    raw.send(b"x")
    answer = headers.PopMessageResponseHeader.parse(raw.pop(invisible=5.0).ext_fields)
    cluster.clock.advance(6)
    wait_for(lambda: out(cluster) == 0)
    point = f"0 {answer.pop_time} 5000 {answer.revive_qid} 0 broker-a 0 0"
    ack = headers.AckMessageRequestHeader(consumer_group=GROUP, topic=TOPIC, queue_id=0, extra_info=point, offset=0)
    assert names(raw.call(ack)) == "SUCCESS"
    (again,) = popped(raw)
    assert (again.body, again.reconsume_times) == (b"x", 1)


def test_pops_wait_in_turn(raw: RawClient, other: RawClient, cluster: EmbeddedCluster) -> None:
    cluster.create_topic(TOPIC)
    pops = cluster.brokers["broker-a"].pops
    waiting = [gevent.spawn(popped, client, queue_id=-1, hold=30.0) for client in (raw, other)]
    wait_for(lambda: pops.waiting.count() == 2)
    sender = RawClient(cluster.broker_address("broker-a"))
    sender.send(b"one", queue_id=2)
    sender.send(b"two", queue_id=3)
    gevent.joinall(waiting, timeout=5)
    assert sorted(message.body for each in waiting for message in each.get(timeout=0)) == [b"one", b"two"]
    assert pops.waiting.count() == 0
    held = gevent.spawn(raw.pop, queue_id=-1, hold=30.0)
    wait_for(lambda: pops.waiting.count() == 1)
    cluster.clock.advance(30)
    assert names(held.get(timeout=5)) == "POLLING_TIMEOUT"
    gone = gevent.spawn(raw.pop, queue_id=-1, hold=30.0)
    wait_for(lambda: pops.waiting.count() == 1)
    gone.kill()
    raw.close()
    wait_for(lambda: pops.waiting.count() == 0)
    sender.close()


def test_a_message_that_comes_again_wakes_who_waits(raw: RawClient, other: RawClient, cluster: EmbeddedCluster) -> None:
    raw.send(b"x")
    assert len(popped(raw, invisible=10.0)) == 1
    waiting = gevent.spawn(popped, other, queue_id=-1, hold=30.0)
    wait_for(lambda: cluster.brokers["broker-a"].pops.waiting.count() == 1)
    cluster.clock.advance(11)
    assert [message.reconsume_times for message in waiting.get(timeout=5)] == [1]


def test_in_order_a_queue_waits_for_its_acknowledgement(raw: RawClient, other: RawClient, cluster: EmbeddedCluster) -> None:
    for number in range(3):
        raw.send(b"%d" % number)
    first = raw.pop(order=True, most=1, invisible=60.0)
    waiting = gevent.spawn(popped, other, order=True, most=1, hold=30.0)
    wait_for(lambda: cluster.brokers["broker-a"].pops.waiting.count() == 1)
    gevent.sleep(0.05)
    assert not waiting.ready()
    answer = headers.PopMessageResponseHeader.parse(first.ext_fields)
    assert answer.revive_qid == 999
    point = f"0 {answer.pop_time} 60000 999 0 broker-a 0 0"
    raw.call(headers.AckMessageRequestHeader(consumer_group=GROUP, topic=TOPIC, queue_id=0, extra_info=point, offset=0))
    assert [message.body for message in waiting.get(timeout=5)] == [b"1"]
    cluster.clock.advance(61)
    again = raw.pop(order=True, most=2)
    assert [message.body for message in decode_messages(again.body or b"")] == [b"1", b"2"]
    assert (again.ext_fields or {})["orderCountInfo"] == "0 qo0%1 1;0 0 0"


def test_a_deleted_topic_and_a_stopped_broker_forget_what_is_out(raw: RawClient, cluster: EmbeddedCluster) -> None:
    raw.send(b"x")
    popped(raw)
    assert out(cluster) == 1
    raw.call(headers.DeleteTopicRequestHeader(topic=TOPIC))
    assert out(cluster) == 0


def test_a_notification_tells_that_there_is_something(raw: RawClient, other: RawClient, cluster: EmbeddedCluster) -> None:
    cluster.create_topic(TOPIC)
    place = {"consumer_group": GROUP, "topic": TOPIC, "queue_id": -1}
    header = headers.NotificationRequestHeader(**place, poll_time=20_000, born_time=0)
    waiting = gevent.spawn(raw.call, header)
    wait_for(lambda: cluster.brokers["broker-a"].pops.waiting.count() == 1)
    info = other.call(headers.PollingInfoRequestHeader(**place))
    assert (info.ext_fields or {})["pollingNum"] == "1"
    other.send(b"x")
    assert (waiting.get(timeout=5).ext_fields or {})["hasMsg"] == "true"
    assert len(popped(other)) == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"topic": "unknown"}, "TOPIC_NOT_EXIST"),
        ({"topic": "unreadable"}, "NO_PERMISSION"),
        ({"queue_id": 9}, "INVALID_PARAMETER"),
        ({"most": 33}, "INVALID_PARAMETER"),
        ({"group": "bad group!"}, "SUBSCRIPTION_GROUP_NOT_EXIST"),
        ({"born_time": 1}, "POLLING_TIMEOUT"),
        ({"exp_type": "SQL92", "exp": "a >"}, "SUBSCRIPTION_PARSE_FAILED"),
    ],
)
def test_refused_pops(raw: RawClient, cluster: EmbeddedCluster, change: dict[str, Any], code: str) -> None:
    cluster.create_topic(TOPIC)
    cluster.create_topic("unreadable", perm=2)
    assert names(raw.pop(**change)) == code


def test_a_broken_check_point_is_an_error_of_its_own(raw: RawClient, cluster: EmbeddedCluster) -> None:
    cluster.create_topic(TOPIC)
    ack = headers.AckMessageRequestHeader(consumer_group=GROUP, topic=TOPIC, queue_id=0, extra_info="0 1", offset=0)
    assert names(raw.call(ack)) == "SYSTEM_ERROR"
    assert names(raw.call(pop_header(), code=RequestCode.BATCH_ACK_MESSAGE)) == "NO_MESSAGE"
    assert names(raw.send()) == "SUCCESS"


# Sharing out


def assigned(raw: RawClient, client_id: str, topic: str = TOPIC, strategy: str = "AVG") -> list[tuple[int, str]] | None:
    body = bodies.QUERY_ASSIGNMENT.encode(QueryAssignmentRequestBody(topic, GROUP, client_id, strategy))
    found = bodies.ASSIGNMENTS.decode(raw.call(headers.HeartbeatRequestHeader(), body, code=400).body)
    if found is None:
        return None
    return sorted((one.message_queue.queue_id, one.mode.value if one.mode else "") for one in found)


def set_mode(raw: RawClient, mode: MessageRequestMode, share: int = 0, topic: str = TOPIC, group: str = GROUP) -> str:
    body = bodies.REQUEST_MODE.encode(SetMessageRequestModeRequestBody(topic, group, mode, share))
    return names(raw.call(headers.HeartbeatRequestHeader(), body, code=401))


def test_queues_are_shared_out(raw: RawClient, other: RawClient, cluster: EmbeddedCluster) -> None:
    assert assigned(raw, "a") is None, "no such topic"
    cluster.create_topic(TOPIC, queues=3)
    assert assigned(raw, "a") is None, "no such group"
    raw.heartbeat("a")
    other.heartbeat("b")
    assert assigned(raw, "a") == [(0, "PULL"), (1, "PULL")]
    assert assigned(raw, "b") == [(2, "PULL")]
    assert assigned(raw, "b", strategy="AVG_BY_CIRCLE") == [(1, "PULL")]
    assert assigned(raw, "c") == []
    assert assigned(raw, "a", strategy="OWN") is None
    assert set_mode(raw, MessageRequestMode.POP) == "SUCCESS"
    assert assigned(raw, "a") == assigned(raw, "b") == [(-1, "POP")]
    assert assigned(raw, "a", topic=f"%RETRY%{GROUP}") == [(0, "PULL")]
    assert set_mode(raw, MessageRequestMode.POP, topic=f"%RETRY%{GROUP}") == "NO_PERMISSION"
    assert set_mode(raw, MessageRequestMode.POP, topic="unknown") == "TOPIC_NOT_EXIST"


def test_members_that_share_with_a_neighbour(cluster: EmbeddedCluster) -> None:
    cluster.create_topic(TOPIC, queues=6)
    members = [RawClient(cluster.broker_address("broker-a")) for _ in range(3)]
    for number, member in enumerate(members):
        member.heartbeat(f"c{number}")
    set_mode(members[0], MessageRequestMode.POP, share=1)
    assert [sorted({queue for queue, _ in assigned(members[0], f"c{number}") or ()}) for number in range(3)] == [
        [0, 1, 2, 3],
        [2, 3, 4, 5],
        [0, 1, 4, 5],
    ]
    for member in members:
        member.close()
