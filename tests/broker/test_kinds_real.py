"""Ways of consuming that need a real broker as the judge: in order, broadcast, filtered, mixed with Java, bounded, killed."""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import gevent
import pytest

from grocketmq import (
    AllocateConsistentHash,
    ConfigError,
    ConsumeOrderlyStatus,
    LitePullConsumer,
    LocalFileOffsetStore,
    Message,
    MessageExt,
    MessageModel,
    MessageQueue,
    OrderlyContext,
    Producer,
    PullConsumer,
    Sql,
)
from grocketmq.model.namespace import dlq_topic
from tests.helpers import wait_for

from .clients import (
    ARRIVAL,
    Inbox,
    Member,
    all_queues,
    assigned,
    broker_config,
    consuming,
    new_consumer,
    numbered,
    producing,
    send_bodies,
    stored_offset,
)
from .cluster import RealCluster
from .conftest import Pair

QUEUES = 2


@pytest.fixture
def producer(real_cluster: RealCluster) -> Iterator[Producer]:
    with producing(real_cluster) as started:
        yield started


# -- in order


class OrderedSends:
    """Numbers each queue's messages and goes on sending until it is stopped; the body is ``queue number``."""

    def __init__(self, producer: Producer, topic: str) -> None:
        self.sent: Counter[str] = Counter()
        self._producer = producer
        self._queues = producer.fetch_publish_queues(topic)
        self._sender = gevent.spawn(self._run)

    def _run(self) -> None:
        while True:
            for queue in self._queues:
                name = f"{queue.broker_name}/{queue.queue_id}"
                self._producer.send(Message(queue.topic, f"{name} {self.sent[name]}".encode()), queue=queue)
                self.sent[name] += 1
            gevent.sleep(0.02)

    def stop(self) -> None:
        self._sender.kill()


def check_order(members: list[Member], sent: Counter[str]) -> int:
    """No message overtakes another of its queue: each follows the one before, or goes back to repeat; returns the repeats."""
    came = sorted((at, body) for member in members for at, body in zip(member.times, member.bodies, strict=True))
    last: dict[str, int] = dict.fromkeys(sent, -1)
    repeats = 0
    for _, body in came:
        queue, _, number = body.decode().partition(" ")
        assert int(number) <= last[queue] + 1, f"{queue}: {number} came after {last[queue]}"
        repeats += int(number) <= last[queue]
        last[queue] = int(number)
    return repeats


def shared_out(cluster: RealCluster, topic: str, *members: Member) -> bool:
    shares = [{queue for queue in member.assigned() if queue[0] == topic} for member in members]
    wanted = all_queues(cluster, topic, QUEUES)
    return sum(map(len, shares)) == len(wanted) and set().union(*shares) == wanted and all(shares)


def everything_came(members: list[Member], sent: Counter[str]) -> bool:
    wanted = {f"{queue} {number}".encode() for queue, count in sent.items() for number in range(count)}
    return wanted <= {body for member in members for body in member.bodies}


def test_queues_keep_their_order_while_members_join_and_leave(
    real_cluster: RealCluster, producer: Producer, topic_name: str, group_name: str
) -> None:
    real_cluster.create_topic(topic_name, QUEUES)
    with ExitStack() as stack:
        first = stack.enter_context(Member(real_cluster, group_name, topic_name, "orderly"))
        sends = OrderedSends(producer, topic_name)
        stack.callback(sends.stop)
        wait_for(lambda: shared_out(real_cluster, topic_name, first), ARRIVAL, "one member has all queues")
        second = stack.enter_context(Member(real_cluster, group_name, topic_name, "orderly"))
        wait_for(lambda: shared_out(real_cluster, topic_name, first, second), ARRIVAL, "two members share the queues")
        gevent.sleep(0.5)
        first.leave()
        wait_for(lambda: shared_out(real_cluster, topic_name, second), ARRIVAL, "the one left has all queues")
        gevent.sleep(0.5)
        sends.stop()
        wait_for(lambda: everything_came([first, second], sends.sent), ARRIVAL, "every message")
        assert len(first.bodies) > 10
        assert len(second.bodies) > 10
        check_order([first, second], sends.sent)


def test_an_orderly_queue_stands_still_and_gives_a_message_up_in_the_end(
    either_cluster: RealCluster, topic_name: str, group_name: str
) -> None:
    either_cluster.create_topic(topic_name, 1)
    tries: list[bytes] = []

    def listen(msgs: list[MessageExt]) -> ConsumeOrderlyStatus | None:
        tries.append(msgs[0].body)
        return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT if msgs[0].body == b"bad" else None

    options = {"orderly": True, "max_reconsume_times": 2, "suspend_queue_time": 0.01}
    with producing(either_cluster) as producer:
        [queue, *_] = producer.fetch_publish_queues(topic_name)
        send_bodies(producer, topic_name, [b"bad", b"good", b"better"], queue)
        with consuming(either_cluster, group_name, topic_name, listen, **options):
            wait_for(lambda: tries[-1:] == [b"better"], ARRIVAL, "the last message")
        assert tries == [b"bad"] * 3 + [b"good", b"better"]
        dead = [MessageQueue(dlq_topic(group_name), name, 0) for name in either_cluster.broker_names]
        wait_for(lambda: dead[0].topic in producer.topic_list(), ARRIVAL, "a broker has made the topic of dead letters")
        if not either_cluster.version.startswith("4."):  # where a dead letter is delayed as any that comes again
            wait_for(lambda: sum(map(producer.max_offset, dead)) == 1, ARRIVAL, "it is among them")


def test_an_orderly_listener_commits_and_rolls_back(either_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    either_cluster.create_topic(topic_name, 1)
    came: list[bytes] = []

    def listen(msgs: list[MessageExt], context: OrderlyContext) -> ConsumeOrderlyStatus:
        context.auto_commit = False
        context.suspend_queue_time = 0.01
        came.append(msgs[0].body)
        if msgs[0].body == b"3":
            return ConsumeOrderlyStatus.COMMIT
        return ConsumeOrderlyStatus.ROLLBACK if came == [b"0", b"1", b"2"] else ConsumeOrderlyStatus.SUCCESS

    with producing(either_cluster) as producer:
        [queue, *_] = producer.fetch_publish_queues(topic_name)
        send_bodies(producer, topic_name, [b"0", b"1", b"2", b"3"], queue)
        with consuming(either_cluster, group_name, topic_name, listen, orderly=True):
            wait_for(lambda: len(came) == 7, ARRIVAL, "all, three of them twice")
        assert stored_offset(producer, group_name, queue) == 4
    assert came == [b"0", b"1", b"2", b"0", b"1", b"2", b"3"]


@pytest.mark.slow  # a broker keeps the locks of a member that was killed for a minute
def test_queues_keep_their_order_when_a_member_is_killed(
    real_cluster: RealCluster, producer: Producer, topic_name: str, group_name: str
) -> None:
    real_cluster.create_topic(topic_name, QUEUES)
    with ExitStack() as stack:
        members = [stack.enter_context(Member(real_cluster, group_name, topic_name, "orderly")) for _ in range(2)]
        sends = OrderedSends(producer, topic_name)
        stack.callback(sends.stop)
        wait_for(lambda: shared_out(real_cluster, topic_name, *members), ARRIVAL, "two members share the queues")
        gevent.sleep(1.0)
        members[0].kill()
        members.append(stack.enter_context(Member(real_cluster, group_name, topic_name, "orderly")))
        wait_for(lambda: shared_out(real_cluster, topic_name, *members[1:]), 120.0, "the dead one's queues are taken over")
        sends.stop()
        wait_for(lambda: everything_came(members, sends.sent), ARRIVAL, "every message")
        check_order(members, sends.sent)


# -- killed


@pytest.mark.slow
def test_what_a_killed_member_had_popped_comes_to_another(
    real_cluster: RealCluster, producer: Producer, topic_name: str, group_name: str
) -> None:
    real_cluster.create_topic(topic_name, QUEUES)
    bodies = numbered("popped", 600)
    send_bodies(producer, topic_name, bodies)
    inbox = Inbox()
    with Member(real_cluster, group_name, topic_name, "pop") as doomed:
        wait_for(lambda: len(doomed.bodies) > 20, ARRIVAL, "it is at work")
        doomed.kill()
        assert len(set(doomed.bodies)) < 600, "it was killed before it was through"
        with consuming(real_cluster, group_name, topic_name, inbox, pop=True):
            wait_for(lambda: set(bodies) <= {*inbox.bodies, *doomed.bodies}, ARRIVAL, "every message")


def test_a_killed_members_queues_are_taken_over(
    real_cluster: RealCluster, producer: Producer, topic_name: str, group_name: str
) -> None:
    real_cluster.create_topic(topic_name, QUEUES)
    bodies = numbered("pulled", 400)
    inbox = Inbox()
    with (
        consuming(real_cluster, group_name, topic_name, inbox) as survivor,
        Member(real_cluster, group_name, topic_name) as doomed,
    ):
        wait_for(lambda: 0 < len(assigned(survivor)) < 2 * QUEUES + 1, ARRIVAL, "they share the queues")
        wait_for(lambda: len({queue for queue in doomed.assigned() if queue[0] == topic_name}) == QUEUES, ARRIVAL)
        send_bodies(producer, topic_name, bodies[:200])
        wait_for(lambda: len(doomed.bodies) > 10, ARRIVAL, "it is at work")
        doomed.kill()
        send_bodies(producer, topic_name, bodies[200:])
        wait_for(
            lambda: all_queues(real_cluster, topic_name, QUEUES) <= assigned(survivor), ARRIVAL, "its queues are taken over"
        )
        wait_for(lambda: set(bodies) <= {*inbox.bodies, *doomed.bodies}, ARRIVAL, "every message")


# -- everyone gets everything


def test_broadcasting_reaches_every_member_and_goes_on_where_it_stopped(
    pair: Pair, topic_name: str, group_name: str, tmp_path: Path
) -> None:
    """Two of ours with files of their own, and one of Java's."""
    pair.cluster.create_topic(topic_name, QUEUES)
    first, second, third = (numbered(name, 20) for name in ("first", "second", "third"))

    def member(name: str, inbox: Inbox):  # type: ignore[no-untyped-def]
        store = LocalFileOffsetStore(tmp_path)
        return consuming(
            pair.cluster, group_name, topic_name, inbox, model=MessageModel.BROADCASTING, offset_store=store, instance_name=name
        )

    inboxes = [Inbox(), Inbox(), Inbox()]
    with producing(pair.cluster) as producer, pair.java.consume(group_name, topic_name, broadcasting=True) as java:
        with member("one", inboxes[0]), member("two", inboxes[1]):
            send_bodies(producer, topic_name, first)
            for inbox in inboxes[:2]:
                inbox.wait_for_bodies(first)
            java.wait(20)
        send_bodies(producer, topic_name, second)
        with member("one", inboxes[2]):
            send_bodies(producer, topic_name, third)
            inboxes[2].wait_for_bodies(second + third)
        assert Counter(inboxes[2].bodies) == Counter(second + third)
        java.wait(60)
    assert Counter(java.bodies) == Counter(first + second + third)
    assert len(list(tmp_path.glob("*@one/*/offsets.json"))) == 1


def test_broadcasting_to_lite_pull_consumers(
    real_cluster: RealCluster, producer: Producer, topic_name: str, group_name: str, tmp_path: Path
) -> None:
    real_cluster.create_topic(topic_name, QUEUES)
    bodies, later = numbered("all", 20), numbered("later", 20)

    def member(name: str) -> LitePullConsumer:
        consumer = LitePullConsumer(
            group_name,
            namesrv=real_cluster.namesrv,
            model=MessageModel.BROADCASTING,
            offset_store=LocalFileOffsetStore(tmp_path),
            auto_commit=False,
            instance_name=f"lite-{topic_name}-{name}",
        )
        consumer.subscribe(topic_name)
        return consumer

    def take(consumer: LitePullConsumer, count: int) -> list[bytes]:
        got: list[bytes] = []
        wait_for(lambda: got.extend(m.body for m in consumer.poll(1.0)) or len(got) >= count, ARRIVAL, f"{count} messages")
        return got

    with member("one") as one, member("two") as two:
        send_bodies(producer, topic_name, bodies)
        for consumer in (one, two):
            assert sorted(take(consumer, 20)) == sorted(bodies)
            consumer.commit()
    send_bodies(producer, topic_name, later)
    with member("one") as one:
        assert sorted(take(one, 20)) == sorted(later)


# -- filters


CONDITION = "region = 'eu' AND number BETWEEN 10 AND 29"


@pytest.fixture
def filtered(either_cluster: RealCluster, topic_name: str) -> Iterator[list[bytes]]:
    """A topic of 80 messages at brokers that filter; the bodies that the condition is true of."""
    either_cluster.create_topic(topic_name, QUEUES)
    wanted = []
    with broker_config(either_cluster, "enablePropertyFilter", True, False), producing(either_cluster) as producer:
        for number in range(80):
            region = "eu" if number % 2 else "us"
            body = f"{region} {number}".encode()
            producer.send(Message(topic_name, body, properties={"region": region, "number": str(number)}))
            if region == "eu" and 10 <= number <= 29:
                wanted.append(body)
        yield wanted


def test_a_condition_filters_for_a_push_consumer(
    either_cluster: RealCluster, filtered: list[bytes], topic_name: str, group_name: str
) -> None:
    inbox = Inbox()
    consumer = new_consumer(either_cluster, group_name, topic_name, inbox, instance_name=group_name)
    consumer.subscribe(topic_name, Sql(CONDITION))
    with consumer, producing(either_cluster) as producer:
        inbox.wait_for_bodies(filtered)
        producer.send(Message(topic_name, b"last", properties={"region": "eu", "number": "11"}))
        inbox.wait_for_bodies([b"last"])
    assert sorted(inbox.bodies) == sorted([*filtered, b"last"])


def test_a_condition_filters_for_pull_consumers(
    either_cluster: RealCluster, filtered: list[bytes], topic_name: str, unique_name: Callable[[str], str]
) -> None:
    got: list[bytes] = []
    with PullConsumer(unique_name("pull"), namesrv=either_cluster.namesrv) as pull:
        for queue in pull.fetch_subscribe_queues(topic_name):
            offset = 0
            while offset < pull.max_offset(queue):
                found = pull.pull(queue, Sql(CONDITION), offset)
                got += [message.body for message in found.messages]
                offset = found.next_begin_offset
    assert sorted(got) == sorted(filtered)
    lite = LitePullConsumer(unique_name("lite"), namesrv=either_cluster.namesrv, instance_name=topic_name)
    with lite:
        polled: list[bytes] = []
        lite.assign(lite.fetch_subscribe_queues(topic_name), Sql(CONDITION))
        for queue in lite.queues():
            lite.seek_to_begin(queue)
        wait_for(lambda: polled.extend(m.body for m in lite.poll(1.0)) or len(polled) >= len(filtered), ARRIVAL, "all polled")
        assert lite.poll(0.5) == []
    assert sorted(polled) == sorted(filtered)


@pytest.mark.usefixtures("filtered")
def test_a_condition_that_is_none_is_refused_before_anything_is_pulled(
    either_cluster: RealCluster, topic_name: str, group_name: str
) -> None:
    inbox = Inbox()
    consumer = new_consumer(either_cluster, group_name, topic_name, inbox, instance_name=group_name)
    consumer.subscribe(topic_name, Sql("region = = 'eu'"))
    with pytest.raises(ConfigError, match=f"{topic_name}.*SQL92"):
        consumer.start()
    assert inbox.bodies == []


def test_a_broker_without_filters_says_so(either_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    either_cluster.create_topic(topic_name, QUEUES)
    consumer = new_consumer(either_cluster, group_name, topic_name, Inbox(), instance_name=group_name)
    consumer.subscribe(topic_name, Sql("a IS NULL"))
    with pytest.raises(ConfigError, match="does not support"):
        consumer.start()


# -- mixed with Java


def test_lite_pull_consumers_of_java_and_ours_share_the_queues(pair: Pair, topic_name: str, group_name: str) -> None:
    pair.cluster.create_topic(topic_name, QUEUES)
    got: list[bytes] = []
    rounds = itertools.count(1)
    ours = LitePullConsumer(group_name, namesrv=pair.cluster.namesrv, instance_name=group_name)
    ours.subscribe(topic_name)
    with producing(pair.cluster) as producer, pair.java.poll(group_name, topic_name) as java, ours:

        def came(wanted: list[bytes]) -> bool:
            got.extend(message.body for message in ours.poll(0.2))
            return set(wanted) <= {*got, *java.bodies}

        def shares(count: int) -> list[int]:
            """What each member gets of so many messages, those that come twice counted twice."""
            bodies = numbered(f"round {next(rounds)}", count)
            send_bodies(producer, topic_name, bodies)
            wait_for(lambda: came(bodies), ARRIVAL, "every message")
            gevent.sleep(0.5)  # for some that come twice
            came([])
            return [sum(body in set(bodies) for body in member) for member in (got, java.bodies)]

        wait_for(lambda: len(ours.queues()) == QUEUES, ARRIVAL, "they share the queues")
        # Java takes a moment to give up queues, and still hands out what a pull from before finds.
        wait_for(lambda: shares(8) == [4, 4], ARRIVAL, "Java knows of the share too")
        assert shares(200) == [100, 100]
        assert len(ours.queues()) == QUEUES


def test_consistent_hashing_shares_as_javas(pair: Pair, topic_name: str, group_name: str) -> None:
    queues = 8
    pair.cluster.create_topic(topic_name, queues)
    wanted = all_queues(pair.cluster, topic_name, queues)

    def share(member: set[tuple[str, str, int]]) -> set[tuple[str, str, int]]:
        return {queue for queue in member if queue[0] == topic_name}

    with (
        pair.java.consume(group_name, topic_name, consistent_hash=True) as java,
        consuming(pair.cluster, group_name, topic_name, Inbox(), allocate_strategy=AllocateConsistentHash()) as ours,
        consuming(pair.cluster, group_name, topic_name, Inbox(), allocate_strategy=AllocateConsistentHash()) as another,
    ):

        def balanced() -> bool:
            shares = [share(java.assigned()), share(assigned(ours)), share(assigned(another))]
            return sum(map(len, shares)) == len(wanted) and set().union(*shares) == wanted and all(shares)

        wait_for(balanced, ARRIVAL, "every queue has one member")


# -- safety nets and bounds


def test_members_that_subscribe_differently_are_told(
    real_cluster: RealCluster,
    topic_name: str,
    group_name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("grocketmq.consumer.push.CHECK_INTERVAL", 0.5)
    real_cluster.create_topic(topic_name, QUEUES)

    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records if "disagrees" in record.getMessage()]

    with (
        caplog.at_level(logging.WARNING),
        consuming(real_cluster, group_name, topic_name, Inbox(), expression="a"),
        consuming(real_cluster, group_name, topic_name, Inbox(), expression="b || c"),
    ):
        wait_for(told, ARRIVAL, "a warning")
    for part in (group_name, topic_name, "'a'", "'b || c'"):
        assert part in told()[0]


def test_a_listener_gets_no_more_a_second_than_it_may(
    real_cluster: RealCluster, producer: Producer, topic_name: str, group_name: str
) -> None:
    rate, count = 50, 100
    real_cluster.create_topic(topic_name, QUEUES)
    bodies = numbered("limited", count)
    send_bodies(producer, topic_name, bodies)
    times: list[float] = []
    inbox = Inbox(before=lambda message: times.append(time.monotonic()))
    with consuming(real_cluster, group_name, topic_name, inbox, max_messages_per_second=rate):
        inbox.wait_for_bodies(bodies)
    span = times[-1] - times[0]
    assert span > count / rate - 0.2
    assert span < 3 * count / rate


def test_bytes_over_all_queues_are_bounded(
    real_cluster: RealCluster, producer: Producer, topic_name: str, group_name: str
) -> None:
    """Given eight queues of 1 MiB, when listeners stand still, then about as much is cached as is allowed over all."""
    real_cluster.create_topic(topic_name)
    body_bytes = 64 * 1024
    for number in range(128):
        producer.send(Message(topic_name, number.to_bytes(2, "big") + bytes(body_bytes - 2)))
    free = gevent.event.Event()
    inbox = Inbox(before=lambda message: free.wait())
    with consuming(
        real_cluster, group_name, topic_name, inbox, max_cached_mib=1, pull_batch_size=2, listener_concurrency=1
    ) as consumer:
        wait_for(lambda: consumer.stats().flow_controlled > 50, ARRIVAL, "pulls are put off")
        # Each queue may have had one pull on its way when the bound was reached.
        assert consumer.stats().cached_bytes <= (1 << 20) + 8 * 2 * body_bytes
        free.set()
        inbox.wait(128)
    assert len({message.body[:2] for message in inbox.messages}) == 128
