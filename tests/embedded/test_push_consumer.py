"""Ways of consuming with a listener, on the embedded cluster: in order, broadcast, shared out, bounded, asked by operators."""

from __future__ import annotations

import gc
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.local import local

from grocketmq import (
    AllocateAveragely,
    AllocateAveragelyByCircle,
    AllocateByConfig,
    AllocateByMachineRoom,
    AllocateConsistentHash,
    AllocateMachineRoomNearby,
    ConsumeFromWhere,
    ConsumeOrderlyStatus,
    LitePullConsumer,
    LocalFileOffsetStore,
    Message,
    MessageExt,
    MessageModel,
    MessageQueue,
    OrderlyContext,
    Producer,
    PushConsumer,
)
from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.consumer.allocate import AllocateStrategy
from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded.control import answer, fail
from grocketmq.wire import bodies, headers
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.message_codec import encode_message
from tests.conftest import running_greenlets
from tests.helpers import wait_for

FIRST = ConsumeFromWhere.FIRST_OFFSET
pytestmark = pytest.mark.usefixtures("soon")
_names = count()


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(2, delay_levels=(0.05,) * 18) as cluster:
        cluster.create_topic("T", queues=2)
        yield cluster


@pytest.fixture
def producer(cluster: EmbeddedCluster) -> Iterator[Producer]:
    with Producer("senders", namesrv=cluster.namesrv) as producer:
        yield producer


def new_consumer(cluster: EmbeddedCluster, listener: Callable[..., object], **options: Any) -> PushConsumer:
    orderly = options.pop("orderly", False)
    expression = options.pop("expression", "*")
    options = {"consume_from": FIRST, "instance_name": f"i{next(_names)}", **options}
    consumer = PushConsumer("g", namesrv=cluster.namesrv, **options)
    consumer.subscribe("T", expression)
    consumer.register_listener(listener, orderly=orderly)
    return consumer


def share(consumer: PushConsumer) -> set[MessageQueue]:
    return {queue for queue in consumer.queues() if queue.topic == "T"}


def all_queues(cluster: EmbeddedCluster) -> set[MessageQueue]:
    return {MessageQueue("T", name, number) for name in cluster.broker_names for number in range(2)}


def send(producer: Producer, *texts: object) -> None:
    for text in texts:
        producer.send(Message("T", str(text).encode()))


# -- in order


def test_queues_keep_their_order_while_members_come_and_go(cluster: EmbeddedCluster, producer: Producer) -> None:
    came: list[bytes] = []

    def listen(msgs: list[Message]) -> None:
        gevent.sleep(0.001)
        came.extend(message.body for message in msgs)

    sent: Counter[str] = Counter()
    queues = producer.fetch_publish_queues("T")

    def send_on() -> None:
        while True:
            for queue in queues:
                name = f"{queue.broker_name}/{queue.queue_id}"
                producer.send(Message("T", f"{name} {sent[name]}".encode()), queue=queue)
                sent[name] += 1
            gevent.sleep(0.005)

    first, second = (new_consumer(cluster, listen, orderly=True) for _ in range(2))
    sender = gevent.spawn(send_on)
    with second:
        with first:
            wait_for(lambda: len(share(first)) == len(share(second)) == 2, 20, "they share the queues")
            gevent.sleep(0.2)
        wait_for(lambda: share(second) == all_queues(cluster), 20, "the one left has all")
        gevent.sleep(0.2)
        sender.kill()
        wanted = {f"{queue} {number}".encode() for queue in sent for number in range(sent[queue])}
        wait_for(lambda: wanted <= set(came), 20, "every message")
    last: dict[str, int] = {}
    for body in came:
        queue, _, number = body.decode().partition(" ")
        assert int(number) <= last.get(queue, -1) + 1
        last[queue] = int(number)


def test_an_orderly_message_that_fails_for_good_goes_to_the_dead_letters(cluster: EmbeddedCluster, producer: Producer) -> None:
    tries: list[bytes] = []

    def listen(msgs: list[Message]) -> ConsumeOrderlyStatus | None:
        tries.append(msgs[0].body)
        return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT if msgs[0].body == b"bad" else None

    [queue, *_] = producer.fetch_publish_queues("T")
    for body in (b"bad", b"good"):
        producer.send(Message("T", body), queue=queue)
    with new_consumer(cluster, listen, orderly=True, max_reconsume_times=2, suspend_queue_time=0.01):
        wait_for(lambda: tries[-1:] == [b"good"], 10)
    assert tries == [b"bad"] * 3 + [b"good"]
    dead = LitePullConsumer("undertaker", namesrv=cluster.namesrv, consume_from=FIRST)
    dead.subscribe("%DLQ%g")
    # The topic came into being with its first message.
    with dead:
        assert [message.body for message in dead.poll(5.0)] == [b"bad"]


def test_commit_and_rollback_by_the_listener(cluster: EmbeddedCluster, producer: Producer) -> None:
    [queue, *_] = producer.fetch_publish_queues("T")
    for number in range(4):
        producer.send(Message("T", b"%d" % number), queue=queue)
    came: list[bytes] = []

    def listen(msgs: list[Message], context: OrderlyContext) -> ConsumeOrderlyStatus:
        context.auto_commit = False
        context.suspend_queue_time = 0.01
        came.append(msgs[0].body)
        if msgs[0].body == b"3":
            return ConsumeOrderlyStatus.COMMIT
        return ConsumeOrderlyStatus.ROLLBACK if came == [b"0", b"1", b"2"] else ConsumeOrderlyStatus.SUCCESS

    with new_consumer(cluster, listen, orderly=True) as consumer:
        wait_for(lambda: len(came) == 7, 10)
        wait_for(lambda: consumer.offsets("T").get(queue) == 4, 10)
    assert came == [b"0", b"1", b"2", b"0", b"1", b"2", b"3"]


# -- broadcasting


def test_broadcasting_reaches_every_member_and_goes_on_where_it_stopped(
    cluster: EmbeddedCluster, producer: Producer, tmp_path: Path
) -> None:
    came: dict[str, list[str]] = {"one": [], "two": []}

    def member(name: str) -> PushConsumer:
        return new_consumer(
            cluster,
            lambda msgs: came[name].extend(message.body.decode() for message in msgs),
            model=MessageModel.BROADCASTING,
            offset_store=LocalFileOffsetStore(tmp_path),
            instance_name=name,
            client_id=f"client-{name}",
        )

    with member("one"), member("two"):
        send(producer, *range(10))
        wait_for(lambda: all(len(texts) == 10 for texts in came.values()), 10)
    send(producer, *range(10, 15))
    with member("one"):
        wait_for(lambda: len(came["one"]) == 15, 10)
    assert Counter(came["one"]) == Counter(map(str, range(15)))
    assert (tmp_path / "client-one" / "g" / "offsets.json").is_file()


# -- shared out


def strategies() -> list[AllocateStrategy]:
    return [
        AllocateAveragely(),
        AllocateAveragelyByCircle(),
        AllocateConsistentHash(),
        AllocateMachineRoomNearby(AllocateAveragely(), lambda queue: queue.broker_name, lambda client_id: client_id),
    ]


@pytest.mark.parametrize("strategy", strategies(), ids=lambda strategy: strategy.name)
def test_members_share_out_the_queues(cluster: EmbeddedCluster, strategy: AllocateStrategy) -> None:
    members = [
        new_consumer(cluster, lambda msgs: None, allocate_strategy=strategy, client_id=f"broker-{letter}") for letter in "ab"
    ]

    def shared_out() -> bool:
        shares = [share(member) for member in members]
        return sum(map(len, shares)) == 4 and set().union(*shares) == all_queues(cluster)

    with members[0], members[1]:
        wait_for(shared_out, 20)
        if strategy.name.startswith("MACHINE_ROOM_NEARBY"):
            assert {queue.broker_name for queue in share(members[0])} == {"broker-a"}


def test_a_list_of_queues(cluster: EmbeddedCluster) -> None:
    wanted = MessageQueue("T", "broker-b", 1)
    with new_consumer(cluster, lambda msgs: None, allocate_strategy=AllocateByConfig([wanted])) as consumer:
        assert share(consumer) == {wanted}


def test_machine_rooms(cluster: EmbeddedCluster) -> None:
    """Brokers without a room are consumed by nobody."""
    with new_consumer(cluster, lambda msgs: None, allocate_strategy=AllocateByMachineRoom(["r"])) as consumer:
        assert share(consumer) == set()


# -- where it begins


@pytest.fixture
def old_cluster() -> Iterator[EmbeddedCluster]:
    """Its one queue has lost its first messages: of a young one, brokers have new groups begin at 0 in each case."""
    with EmbeddedCluster(max_bytes=100_000) as cluster:
        cluster.create_topic("T", queues=1)
        with Producer("fillers", namesrv=cluster.namesrv) as producer:
            for _ in range(20):
                producer.send(Message("T", os.urandom(10_000)))  # which no compression makes small
        yield cluster


@pytest.mark.parametrize(
    ("where", "expected"),
    [("FIRST_OFFSET", ["old", "between", "new"]), ("TIMESTAMP", ["between", "new"]), ("LAST_OFFSET", ["new"])],
)
def test_where_a_new_group_begins(old_cluster: EmbeddedCluster, where: str, expected: list[str]) -> None:
    came: list[str] = []
    options: dict[str, Any] = {"consume_from": ConsumeFromWhere[where]}
    with Producer("senders", namesrv=old_cluster.namesrv) as producer:
        send(producer, "old")
        old_cluster.clock.advance(100.0)
        if where == "TIMESTAMP":
            options["consume_timestamp"] = datetime.fromtimestamp(time.time() + 50.0)
        send(producer, "between")
        listener = lambda msgs: came.append(msgs[0].body.decode("latin-1"))  # noqa: E731
        with new_consumer(old_cluster, listener, **options) as consumer:
            wait_for(lambda: share(consumer), 10)
            send(producer, "new")
            wait_for(lambda: "new" in came, 10)
    assert [text for text in came if len(text) < 100] == expected


# -- bounds


def test_bounds_over_all_queues(cluster: EmbeddedCluster, producer: Producer) -> None:
    send(producer, *range(200))
    go_on = Event()
    came: list[bytes] = []

    def listen(msgs: list[Message]) -> None:
        go_on.wait(20)
        came.extend(message.body for message in msgs)

    with new_consumer(cluster, listen, max_cached_messages=40, pull_batch_size=5, listener_concurrency=1) as consumer:
        wait_for(lambda: consumer.stats().flow_controlled > 20, 10)
        # Each queue may have had one pull on its way when the bound was reached.
        assert consumer.stats().cached_messages <= 40 + 4 * 5
        go_on.set()
        wait_for(lambda: len(came) == 200, 10)


def test_a_rate_for_the_listener(cluster: EmbeddedCluster, producer: Producer) -> None:
    send(producer, *range(50))
    times: list[float] = []
    with new_consumer(cluster, lambda msgs: times.append(time.monotonic()), max_messages_per_second=100):
        wait_for(lambda: len(times) == 50, 10)
    assert 0.3 < times[-1] - times[0] < 2.0


def test_stats_and_running_info(cluster: EmbeddedCluster, producer: Producer) -> None:
    send(producer, *range(20))

    def listen(msgs: list[MessageExt]) -> None:
        if msgs[0].body == b"7" and not msgs[0].reconsume_times:
            raise ValueError("seven")

    with new_consumer(cluster, listen) as consumer:
        wait_for(lambda: consumer.stats().consumed >= 20, 10)
        stats = consumer.stats()
        assert stats.failed >= 1
        assert stats.listener_calls == stats.consumed + stats.failed
        assert set(stats.lag) >= all_queues(cluster)
        assert {*stats.topics} == {"T", "%RETRY%g"}
        info = consumer.running_info()
        assert all_queues(cluster) <= info.mq_table.keys()
        assert info.properties["PROP_CONSUME_TYPE"] == "CONSUME_PASSIVELY"
        assert "T" in info.status_table


# -- safety nets


def test_members_that_subscribe_differently_are_told(
    cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("grocketmq.consumer.push.CHECK_INTERVAL", 0.05)
    with (
        caplog.at_level(logging.WARNING),
        new_consumer(cluster, lambda msgs: None, expression="a"),
        new_consumer(cluster, lambda msgs: None, expression="b || c"),
    ):
        told = wait_for(lambda: [r.getMessage() for r in caplog.records if "disagrees" in r.getMessage()], 10)
    assert all(part in told[0] for part in ("group g", "topic T", "'a'", "'b || c'"))


def test_a_queue_that_was_not_pulled_is_built_anew(
    cluster: EmbeddedCluster, producer: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    came: list[bytes] = []
    with new_consumer(cluster, lambda msgs: came.extend(message.body for message in msgs)) as consumer:
        wait_for(lambda: share(consumer) == all_queues(cluster), 10)
        held = consumer._parts.held()
        stuck = {queue: held[queue] for queue in all_queues(cluster)}
        for process_queue in stuck.values():
            process_queue.last_pull -= 121.0  # type: ignore[attr-defined]
        consumer.rebalance()
        consumer.rebalance()
        assert all(held[queue] is not old for queue, old in stuck.items())
        assert all(old.dropped for old in stuck.values())
        assert "built anew" in caplog.text
        send(producer, "after")
        wait_for(lambda: came == [b"after"], 10)


def test_a_rebalance_that_cannot_ask_drops_nothing(cluster: EmbeddedCluster, producer: Producer) -> None:
    came: list[bytes] = []
    with new_consumer(cluster, lambda msgs: came.extend(message.body for message in msgs)) as consumer:
        wait_for(lambda: share(consumer) == all_queues(cluster), 10)
        fault = cluster.control(RequestCode.GET_CONSUMER_LIST_BY_GROUP, fail(), times=None)
        assert not consumer.rebalance()
        assert share(consumer) == all_queues(cluster)
        cluster.release(fault)
        send(producer, "after")
        wait_for(lambda: came == [b"after"], 10)


@pytest.mark.parametrize("lives", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_starts_and_stops_leave_nothing(lives: int, cluster: EmbeddedCluster, producer: Producer) -> None:
    def cycle(kind: str) -> None:
        if kind == "lite":
            lite = LitePullConsumer("g", namesrv=cluster.namesrv, instance_name=f"i{next(_names)}")
            lite.subscribe("T")
            with lite:
                assert lite.queues()
            return
        with new_consumer(
            cluster, lambda msgs: None, orderly=kind == "orderly", pop=kind == "pop", listener_concurrency=2
        ) as one:
            assert kind == "pop" or one.queues()

    for kind in ("concurrent", "orderly", "pop", "lite"):
        cycle(kind)
    gc.collect()
    wait_for(lambda: not members(cluster))
    greenlets, files = len(running_greenlets()), len(os.listdir("/proc/self/fd"))
    watchers = gevent.get_hub().loop.activecnt
    for number in range(lives):
        cycle(("concurrent", "orderly", "pop", "lite")[number % 4])
    wait_for(lambda: len(running_greenlets()) <= greenlets, message="no more greenlets than before")
    wait_for(lambda: len(os.listdir("/proc/self/fd")) <= files, message="no more files than before")
    wait_for(lambda: gevent.get_hub().loop.activecnt <= watchers, message="no more watchers than before")


def members(cluster: EmbeddedCluster) -> int:
    return sum(len(broker.clients.consumers.get("g", ())) for broker in cluster.brokers.values())  # type: ignore[arg-type]


# -- what brokers ask


def command(header: Any) -> RemotingCommand:
    return RemotingCommand(header.CODE, ext_fields=header.to_ext())


def ask(cluster: EmbeddedCluster, request: RemotingCommand) -> RemotingCommand:
    """Ask the group's only member, as its broker does for an operator."""
    [channel] = cluster.brokers["broker-a"].clients.consumers["g"].members
    return channel.call(request, 5.0)


class Unreadable:
    """What somebody keeps for a greenlet, and is none of an operator's business."""

    def __repr__(self) -> str:
        raise ZeroDivisionError


def test_an_operator_asks_for_the_state(cluster: EmbeddedCluster, producer: Producer) -> None:
    send(producer, *range(8))
    own = local()
    own.value = Unreadable()
    came: list[bytes] = []
    with new_consumer(cluster, lambda msgs: came.append(msgs[0].body)) as consumer:
        wait_for(lambda: consumer.offsets("T") == dict.fromkeys(all_queues(cluster), 2), 10)
        assert len(came) == 8
        client_id = str(consumer.client_id)
        header = headers.GetConsumerRunningInfoRequestHeader(consumer_group="g", client_id=client_id, jstack_enable=True)
        info = bodies.RUNNING_INFO.decode(ask(cluster, command(header)).body)
        assert all_queues(cluster) <= info.mq_table.keys()
        assert {info.mq_table[queue].commit_offset for queue in all_queues(cluster)} == {2}
        assert "pull service" in (info.jstack or "")
        assert "test_an_operator_asks_for_the_state" in (info.jstack or "")
        status = headers.GetConsumerStatusRequestHeader(topic="T", group="g")
        found = bodies.CONSUMER_STATUS.decode(ask(cluster, command(status)).body)
        assert found.message_queue_table == dict.fromkeys(all_queues(cluster), 2)
        stranger = headers.GetConsumerStatusRequestHeader(topic="T", group="stranger")
        answer = ask(cluster, command(stranger))
        assert answer.code == ResponseCode.SYSTEM_ERROR
        assert "stranger" in str(answer.remark)


def test_an_operator_resets_offsets(cluster: EmbeddedCluster, producer: Producer) -> None:
    """As brokers before 5.0 do it: by request 220 to the consumer."""
    [queue, *_] = producer.fetch_publish_queues("T")
    for number in range(6):
        producer.send(Message("T", b"%d" % number), queue=queue)
    came: list[bytes] = []
    with new_consumer(cluster, lambda msgs: came.append(msgs[0].body)) as consumer:
        wait_for(lambda: len(came) == 6, 10)
        header = headers.ResetOffsetRequestHeader(topic="T", group="g", timestamp=0, is_force=True)
        request = command(header)
        request.body = bodies.RESET_OFFSET.encode({queue: 4, MessageQueue("T", "elsewhere", 0): 1}, object_keys=True)
        [channel] = cluster.brokers["broker-a"].clients.consumers["g"].members
        channel.send_request(request)
        wait_for(lambda: came[6:] == [b"4", b"5"], 10)
        wait_for(lambda: consumer.offsets("T").get(queue) == 6, 10)
        request.body = b"not JSON"
        channel.send_request(request)
        send(producer, "after")
        wait_for(lambda: came[-1] == b"after", 10)


def test_an_operator_has_a_message_consumed(cluster: EmbeddedCluster) -> None:
    came: list[bytes] = []

    def listen(msgs: list[Message]) -> str:
        came.append(msgs[0].body)
        return "nonsense"

    with new_consumer(cluster, listen):
        header = headers.ConsumeMessageDirectlyResultRequestHeader(consumer_group="g", broker_name="broker-a")
        request = command(header)
        request.body = encode_message("T", b"now")
        result = bodies.DIRECT_RESULT.decode(ask(cluster, request).body)
        assert result.consume_result is bodies.CMResult.THROW_EXCEPTION
        assert "'nonsense'" in str(result.remark)
        request.body = b"\x00\x00"
        assert ask(cluster, request).code == ResponseCode.SYSTEM_ERROR
    assert came == [b"now"]


def test_a_request_of_an_unknown_code(cluster: EmbeddedCluster, producer: Producer) -> None:
    came: list[bytes] = []
    with new_consumer(cluster, lambda msgs: came.append(msgs[0].body)):
        assert ask(cluster, RemotingCommand(29999)).code == ResponseCode.REQUEST_CODE_NOT_SUPPORTED
        send(producer, "after")
        wait_for(lambda: came == [b"after"], 10)


# -- bad input


def raise_an_error() -> None:
    raise RuntimeError("its own error")


def run_out_of_time() -> None:
    with gevent.Timeout(0.01):
        gevent.sleep(5)


def end_its_greenlet() -> None:
    raise gevent.GreenletExit


@pytest.mark.parametrize(
    ("slip", "logged"),
    [
        (raise_an_error, "its own error"),
        (run_out_of_time, "gevent.timeout.Timeout"),
        (end_its_greenlet, "GreenletExit"),
        (lambda: "nonsense", "a listener returns None, a ConsumeStatus or a ConsumeResult, not 'nonsense'"),
        (lambda: 0, "a listener returns None, a ConsumeStatus or a ConsumeResult, not 0"),
    ],
    ids=["raises", "times out", "is killed", "returns a text", "returns a number"],
)
def test_a_message_whose_listener_fails_comes_again_and_the_log_says_why(
    cluster: EmbeddedCluster,
    producer: Producer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    slip: Callable[[], object],
    logged: str,
) -> None:
    monkeypatch.setattr("grocketmq.consumer.concurrently.CONSUME_AGAIN_PAUSE", 0.05)
    tries: list[bytes] = []

    def listen(msgs: list[Message]) -> object:
        tries.append(msgs[0].body)
        return slip() if len(tries) == 1 else None

    send(producer, "x")
    with new_consumer(cluster, listen):
        wait_for(lambda: tries == [b"x", b"x"], 20)
    assert logged in caplog.text


def test_a_listener_that_never_returns_holds_up_its_message_only(cluster: EmbeddedCluster, producer: Producer) -> None:
    tried: Counter[bytes] = Counter()
    never = Event()

    def listen(msgs: list[Message]) -> None:
        tried[msgs[0].body] += 1
        if msgs[0].body == b"stuck" and tried[b"stuck"] == 1:
            never.wait(20)

    send(producer, "stuck", *range(10))
    with new_consumer(cluster, listen, consume_timeout=0.2):
        wait_for(lambda: len(tried) == 11 and tried[b"stuck"] == 2, 20, "it comes again")
        never.set()


def test_a_body_that_cannot_be_unpacked_reaches_the_listener_packed(
    cluster: EmbeddedCluster, producer: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    [queue, *_] = producer.fetch_publish_queues("T")
    packed = RemotingCommand(
        RequestCode.SEND_MESSAGE,
        ext_fields={
            "producerGroup": "p", "topic": "T", "defaultTopic": "TBW102", "defaultTopicQueueNums": "4", "queueId": "0",
            "sysFlag": "1", "bornTimestamp": "1", "flag": "0", "properties": "", "reconsumeTimes": "0",
        },
        body=b"no zlib",
    )  # fmt: skip
    address = cluster.broker_address(queue.broker_name)
    assert producer._instance.remoting.invoke(address, packed, 5.0).code == ResponseCode.SUCCESS
    producer.send(Message("T", b"after"), queue=MessageQueue("T", queue.broker_name, 0))
    came: list[bytes] = []
    with new_consumer(cluster, lambda msgs: came.append(msgs[0].body)):
        wait_for(lambda: len(came) == 2, 10)
    assert sorted(came) == [b"after", b"no zlib"]
    assert "cannot be unpacked" in caplog.text


def test_broken_frames_and_unknown_codes_are_reported_and_the_queue_goes_on(
    cluster: EmbeddedCluster, producer: Producer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grocketmq.consumer.pull_service.AFTER_ERROR", 0.05)
    fields: dict[str, str | None] = {"suggestWhichBrokerId": "0", "nextBeginOffset": "1", "minOffset": "0", "maxOffset": "1"}
    send(producer, "before")
    faults = [
        cluster.control(RequestCode.PULL_MESSAGE, action, matches=lambda request: (request.ext_fields or {})["topic"] == "T")
        for action in (
            answer(ResponseCode.SUCCESS, None, fields, b"\x00\x00\x00\x20broken"),
            answer(28888, "nobody knows this code"),
            answer(ResponseCode.SUCCESS, None, {}),
        )
    ]
    came: list[bytes] = []
    with new_consumer(cluster, lambda msgs: came.append(msgs[0].body)):
        wait_for(lambda: came == [b"before"], 20)
    assert [fault.taken for fault in faults] == [1, 1, 1]
    for part in ("stored message", "nobody knows this code", "nextBeginOffset"):
        assert part in caplog.text
