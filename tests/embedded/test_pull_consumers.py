"""Consumers that ask for their messages: what polls hand out, what commits store, and who gets which queue."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from grocketmq import ConsumeFromWhere, LitePullConsumer, Message, MessageQueue, Producer, PullConsumer, PullStatus
from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded.control import answer, delay
from grocketmq.errors import BrokerError, ClientStateError, ConfigError, RouteNotFoundError
from grocketmq.model.subscription import Sql
from tests.helpers import wait_for

TOPIC = "orders"
GROUP = "readers"
SOON = 20.0

pytestmark = pytest.mark.usefixtures("soon")
_instances = itertools.count(1)


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(brokers=2) as cluster:
        cluster.create_topic(TOPIC, queues=2)
        yield cluster


@pytest.fixture
def producer(cluster: EmbeddedCluster) -> Iterator[Producer]:
    with Producer("writers", namesrv=cluster.namesrv) as producer:
        yield producer


@pytest.fixture
def lite(cluster: EmbeddedCluster) -> Iterator[Callable[..., LitePullConsumer]]:
    """Makes lite pull consumers that begin at the first offset and commit by hand, each with an instance of its own."""
    made: list[LitePullConsumer] = []

    def make(group: str = GROUP, **options: Any) -> LitePullConsumer:
        options.setdefault("auto_commit", False)
        options.setdefault("consume_from", ConsumeFromWhere.FIRST_OFFSET)
        options.setdefault("instance_name", f"lite-{next(_instances)}")
        made.append(LitePullConsumer(group, namesrv=cluster.namesrv, **options))
        return made[-1]

    yield make
    for consumer in made:
        consumer.shutdown()


@pytest.fixture
def pulling(cluster: EmbeddedCluster) -> Iterator[PullConsumer]:
    with PullConsumer("pullers", namesrv=cluster.namesrv) as consumer:
        yield consumer


def queue(number: int = 0, broker: str = "broker-a", topic: str = TOPIC) -> MessageQueue:
    return MessageQueue(topic, broker, number)


def send(producer: Producer, count: int, to: MessageQueue | None = None, first: int = 0, **options: Any) -> list[bytes]:
    bodies = [b"%d" % number for number in range(first, first + count)]
    for body in bodies:
        producer.send(Message(TOPIC, body, **options), queue=to)
    return bodies


def poll_all(consumer: LitePullConsumer, count: int) -> list[bytes]:
    """Poll until so many have come."""
    got: list[bytes] = []
    with gevent.Timeout(SOON, AssertionError(f"only {count} messages wanted")) as limit:
        limit.exception = AssertionError(f"fewer than {count} messages in {SOON:g} s")
        while len(got) < count:
            got += [message.body for message in consumer.poll(1.0)]
    return got


def offsets(consumer: LitePullConsumer, timeout: float = SOON) -> list[int]:
    return [message.queue_offset for message in consumer.poll(timeout)]


def stored(cluster: EmbeddedCluster, of: MessageQueue, group: str = GROUP) -> int | None:
    with PullConsumer(group, namesrv=cluster.namesrv, instance_name=f"ask-{next(_instances)}") as asking:
        return asking.fetch_offset(of)


def assigned(make: Callable[..., LitePullConsumer], *queues: MessageQueue, **options: Any) -> LitePullConsumer:
    consumer = make(**options)
    consumer.assign(queues or [queue()])
    consumer.start()
    return consumer


# Subscribing and polling


def test_poll_gives_every_message_in_the_order_of_its_queue(lite: Any, producer: Producer) -> None:
    bodies = send(producer, 100)
    consumer = lite()
    consumer.subscribe(TOPIC)
    consumer.start()
    reached: dict[MessageQueue, int] = {}
    got: list[bytes] = []
    while len(got) < 100:
        batch = consumer.poll(SOON)
        assert 0 < len(batch) <= 10, "at most pull_batch_size, and none only when nothing came"
        assert len({message.message_queue for message in batch}) == 1
        for message in batch:
            assert message.queue_offset == reached.get(message.message_queue, 0)
            reached[message.message_queue] = message.queue_offset + 1
            got.append(message.body)
    assert sorted(got) == sorted(bodies)
    assert consumer.poll(0) == []
    stats = consumer.stats()
    assert (stats.pulled, stats.consumed, stats.cached_messages) == (100, 100, 0)


def test_tags(lite: Any, producer: Producer) -> None:
    for number in range(20):
        producer.send(Message(TOPIC, b"%d" % number, tags="odd" if number % 2 else "even"))
    consumer = lite()
    consumer.subscribe(TOPIC, "odd || other")
    consumer.start()
    assert sorted(map(int, poll_all(consumer, 10))) == list(range(1, 20, 2))
    wait_for(lambda: sum(consumer.committed(one) or 0 for one in consumer.queues()) == 20 or consumer.commit())
    assert consumer.poll(0) == [], "what the filter left out is passed over by the commit too"


def test_poll_waits_for_messages_and_no_longer(lite: Any, producer: Producer) -> None:
    consumer = assigned(lite)
    began = time.monotonic()
    assert consumer.poll(0.2) == []
    assert 0.2 <= time.monotonic() - began < 2
    waiting = gevent.spawn(consumer.poll, None)
    gevent.sleep(0.05)
    assert not waiting.dead
    send(producer, 1, queue())
    assert [message.body for message in waiting.get(timeout=SOON)] == [b"0"]


def test_several_greenlets_poll_and_each_message_is_handed_out_once(lite: Any, producer: Producer) -> None:
    consumer = assigned(lite, queue(0), queue(1), queue(0, "broker-b"))
    got: list[bytes] = []

    def work() -> None:
        while batch := consumer.poll(1.0):
            got.extend(message.body for message in batch)
            gevent.sleep(0)

    bodies = send(producer, 60, queue(0)) + send(producer, 60, queue(1), 60) + send(producer, 60, queue(0, "broker-b"), 120)
    gevent.joinall([gevent.spawn(work) for _ in range(4)], timeout=SOON)
    assert sorted(got) == sorted(bodies)


def test_queues_take_turns(lite: Any, producer: Producer) -> None:
    send(producer, 50, queue(0))
    send(producer, 50, queue(1))
    consumer = assigned(lite, queue(0), queue(1))
    wait_for(lambda: consumer.stats().cached_messages == 100)
    numbers = [consumer.poll(SOON)[0].queue_id for _ in range(10)]
    assert numbers in ([0, 1] * 5, [1, 0] * 5)


def test_iteration_hands_out_one_by_one(lite: Any, producer: Producer) -> None:
    send(producer, 10, queue())
    consumer = assigned(lite)
    for message in consumer:
        if message.queue_offset == 3:
            break
    consumer.commit()
    assert consumer.committed(queue()) == 4, "the loop got 0 to 3"
    assert offsets(consumer) == [4, 5, 6, 7, 8, 9]


def test_shutdown_ends_polls_and_loops_at_once(lite: Any) -> None:
    consumer = assigned(lite)
    ended: list[str] = []

    def poll() -> None:
        with pytest.raises(ClientStateError) as raised:
            consumer.poll(None)
        ended.append(str(raised.value))

    polls = [gevent.spawn(poll) for _ in range(3)]
    loop = gevent.spawn(lambda: list(consumer))
    gevent.sleep(0.05)
    began = time.monotonic()
    consumer.shutdown()
    gevent.joinall([*polls, loop], timeout=1)
    assert len(ended) == 3
    assert "shut down" in ended[0]
    assert loop.value == []
    assert time.monotonic() - began < 3
    with pytest.raises(ClientStateError):
        consumer.poll()
    with pytest.raises(ClientStateError):
        iter(consumer)


def test_what_cannot_work_is_refused(lite: Any, cluster: EmbeddedCluster) -> None:
    consumer = lite()
    with pytest.raises(ClientStateError):
        consumer.poll()
    consumer.subscribe(TOPIC)
    with pytest.raises(ConfigError, match="either subscribes or assigns"):
        consumer.assign([queue()])
    assigning = lite()
    assigning.assign([queue()])
    with pytest.raises(ConfigError, match="either subscribes or assigns"):
        assigning.subscribe(TOPIC)
    with pytest.raises(ConfigError, match="at least one queue"):
        lite().assign([])
    nothing = lite()
    nothing.start()
    with pytest.raises(ConfigError, match="subscribe"):
        nothing.poll()
    with pytest.raises(RouteNotFoundError):
        nothing.fetch_subscribe_queues("nowhere")
    for options in ({"pull_batch_size": 0}, {"auto_commit_interval": -1}, {"model": "CLUSTERING"}):
        with pytest.raises(ConfigError):
            lite(**options)
    with pytest.raises(TypeError, match="autocommit"):
        lite(autocommit=True)
    with pytest.raises(ConfigError):
        LitePullConsumer("no good", namesrv=cluster.namesrv)
    refused = lite()
    refused.subscribe(TOPIC, Sql("a >"))
    with pytest.raises(ConfigError, match="refuses"):
        refused.start()


def test_a_second_consumer_of_the_group_in_one_instance_is_refused(lite: Any) -> None:
    lite(instance_name="same").start()
    with pytest.raises(ConfigError, match="instance_name"):
        lite(instance_name="same").start()


# Committing


def test_commit_stores_what_polls_had_handed_out(lite: Any, producer: Producer, cluster: EmbeddedCluster) -> None:
    send(producer, 30, queue())
    consumer = assigned(lite)
    assert offsets(consumer) == list(range(10))
    assert consumer.committed(queue()) in (None, 0), "a poll alone commits nothing"
    consumer.commit()
    assert stored(cluster, queue()) == consumer.committed(queue()) == 10
    consumer.poll(SOON)
    consumer.shutdown()
    assert stored(cluster, queue()) == 10, "a shutdown commits nothing"
    again = assigned(lite)
    assert offsets(again) == list(range(10, 20)), "what was handed out and not committed comes again"


def test_nothing_is_stored_before_a_commit(lite: Any, producer: Producer, cluster: EmbeddedCluster) -> None:
    """Neither the periodic task, nor a rebalance, nor polls, nor pulls that find nothing may move the offset."""
    consumer = assigned(lite, queue(), persist_offset_interval=0.05)
    send(producer, 5, queue())
    assert len(poll_all(consumer, 5)) == 5
    producer.send(Message(TOPIC, b"new"), queue=queue())
    consumer.poll(SOON)
    consumer.persist_offsets()
    consumer.assign([queue(1)])
    assert consumer.queues() == [queue(1)]
    assert stored(cluster, queue()) in (None, 0)
    assert not [one for one in cluster.brokers["broker-a"].offsets.offsets.items() if GROUP in str(one[0]) and one[1]]


def test_a_commit_that_the_broker_refuses_is_an_error_and_the_next_one_stores_it(
    lite: Any, producer: Producer, cluster: EmbeddedCluster
) -> None:
    send(producer, 10, queue())
    consumer = assigned(lite, queue(), queue(0, "broker-b"))
    poll_all(consumer, 10)
    cluster.control(RequestCode.UPDATE_CONSUMER_OFFSET, answer(ResponseCode.SYSTEM_ERROR), times=1, at="broker-a")
    with pytest.raises(BrokerError):
        consumer.commit()
    assert consumer.committed(queue(0, "broker-b")) == 0, "the other queue was stored all the same"
    consumer.commit()
    assert consumer.committed(queue()) == 10
    fault = cluster.control(RequestCode.UPDATE_CONSUMER_OFFSET, delay(0))
    consumer.commit()
    assert fault.seen == 0, "nothing has moved, so nothing is stored"


def test_auto_commit_takes_what_earlier_polls_handed_out(lite: Any, producer: Producer, cluster: EmbeddedCluster) -> None:
    send(producer, 30, queue())
    consumer = assigned(lite, queue(), auto_commit=True, auto_commit_interval=0.0, persist_offset_interval=0.05)
    assert offsets(consumer) == list(range(10))
    assert consumer.offsets(TOPIC).get(queue(), 0) == 0, "the poll that hands them out does not commit them"
    assert offsets(consumer) == list(range(10, 20))
    assert consumer.offsets(TOPIC) == {queue(): 10}
    consumer.shutdown()
    assert stored(cluster, queue()) == 10, "what the last poll handed out comes again"


def test_auto_commit_keeps_its_interval(lite: Any, producer: Producer) -> None:
    send(producer, 30, queue())
    consumer = assigned(lite, queue(), auto_commit=True, auto_commit_interval=60.0)
    for _ in range(3):
        consumer.poll(SOON)
    assert consumer.offsets(TOPIC) == {queue(): 0}, "where it began"
    consumer.commit()
    assert consumer.committed(queue()) == 30


def test_committed_tells_of_any_queue(lite: Any, producer: Producer) -> None:
    send(producer, 1, queue(1))
    consumer = assigned(lite)
    assert consumer.committed(queue(1)) in (None, 0)
    with pytest.raises(RouteNotFoundError):
        consumer.committed(queue(0, "broker-z"))


# Seeking


@pytest.fixture
def hundred(lite: Any, producer: Producer) -> LitePullConsumer:
    """A consumer of one queue with 100 messages, the first ten of which it has got."""
    send(producer, 100, queue())
    consumer = assigned(lite)
    assert offsets(consumer) == list(range(10))
    return consumer


def test_seek(hundred: LitePullConsumer) -> None:
    for offset in (50, 0, 99, 42):
        hundred.seek(queue(), offset)
        assert offsets(hundred)[:10] == list(range(offset, min(offset + 10, 100)))
        hundred.seek(queue(), offset)
        hundred.commit()
        assert hundred.committed(queue()) == offset, "the offset sought is the position"


def test_seek_to_begin_and_end(hundred: LitePullConsumer, producer: Producer) -> None:
    hundred.seek_to_end(queue())
    assert hundred.poll(0.2) == []
    send(producer, 1, queue())
    assert offsets(hundred) == [100]
    hundred.seek_to_begin(queue())
    assert offsets(hundred) == list(range(10))


def test_seek_to_timestamp(hundred: LitePullConsumer) -> None:
    hundred.seek(queue(), 60)
    at = hundred.poll(SOON)[0].store_timestamp
    hundred.seek_to_timestamp(queue(), at)
    first = hundred.poll(SOON)[0]
    assert first.store_timestamp >= at
    assert first.queue_offset <= 60
    hundred.seek_to_timestamp(queue(), int(time.time() * 1000) + 60_000)
    assert hundred.poll(0.2) == []
    hundred.seek_to_timestamp(queue(), 0)
    assert offsets(hundred) == list(range(10))


@pytest.mark.parametrize("offset", [-1, 101])
def test_seek_outside_of_the_queue(hundred: LitePullConsumer, offset: int) -> None:
    with pytest.raises(ConfigError, match=r"not within 0\.\.100"):
        hundred.seek(queue(), offset)
    assert offsets(hundred) == list(range(10, 20)), "it goes on where it was"


def test_seek_in_a_queue_of_another(hundred: LitePullConsumer) -> None:
    for seek in (hundred.seek_to_begin, hundred.seek_to_end):
        with pytest.raises(ConfigError, match="not among the queues"):
            seek(queue(1))


def test_answers_to_pulls_from_before_a_seek_are_thrown_away(lite: Any, producer: Producer, cluster: EmbeddedCluster) -> None:
    """Given a pull whose answer is late, when the application seeks, then it gets nothing of that answer."""
    send(producer, 100, queue())
    fault = cluster.control(RequestCode.LITE_PULL_MESSAGE, delay(0.5), times=1, at="broker-a")
    consumer = assigned(lite)
    wait_for(lambda: fault.taken == 1)
    consumer.seek(queue(), 90)
    assert offsets(consumer) == list(range(90, 100))
    assert consumer.poll(0.7) == []


def test_many_seeks_leave_no_pulls_behind(hundred: LitePullConsumer) -> None:
    for number in range(100):
        hundred.seek_to_end(queue())
        hundred.seek(queue(), number)
    wait_for(lambda: len([name for name in hundred._tasks.names() if "pull" in name]) == 1)
    assert offsets(hundred) == [99]


# Pausing


def test_pause_neither_hands_out_nor_pulls(lite: Any, producer: Producer, cluster: EmbeddedCluster) -> None:
    send(producer, 20, queue(0))
    send(producer, 20, queue(1))
    consumer = assigned(lite, queue(0), queue(1))
    wait_for(lambda: consumer.stats().cached_messages == 40)
    consumer.pause([queue(0), queue(0, "broker-b")])
    assert {message.queue_id for _ in range(2) for message in consumer.poll(SOON)} == {1}
    assert consumer.poll(0.1) == []
    consumer.resume([queue(0), queue(0, "broker-b")])
    assert offsets(consumer) == list(range(10))
    consumer.resume([queue(0)])
    assert offsets(consumer) == list(range(10, 20))
    wait_for(lambda: cluster.brokers["broker-a"].pulls.held() == 2)
    consumer.pause([queue(0)])
    send(producer, 1, queue(0))  # ends the pull under way, which began before the pause
    wait_for(lambda: consumer.stats().cached_messages == 1)
    fault = cluster.control(RequestCode.LITE_PULL_MESSAGE, delay(0), at="broker-a")
    send(producer, 1, queue(0))
    assert consumer.poll(0.1) == []
    assert fault.seen == 0
    consumer.resume([queue(0)])
    began = time.monotonic()
    assert sorted(poll_all(consumer, 2)) == [b"0", b"0"]
    assert time.monotonic() - began < 5, "a resumed queue is pulled at once"


# Brokers


def test_a_broker_that_knows_no_lite_pulls(lite: Any, producer: Producer, cluster: EmbeddedCluster) -> None:
    """As those before 5.0: they are pulled from as by any other consumer, and asked once only."""
    refused = cluster.control(RequestCode.LITE_PULL_MESSAGE, answer(ResponseCode.REQUEST_CODE_NOT_SUPPORTED))
    send(producer, 30, queue())
    consumer = assigned(lite)
    assert len(poll_all(consumer, 30)) == 30
    assert refused.seen == 1


# Bounds


def test_a_full_cache_waits_for_polls(lite: Any, producer: Producer) -> None:
    send(producer, 100, queue(0))
    send(producer, 100, queue(1))
    consumer = assigned(lite, queue(0), queue(1), max_cached_messages_per_queue=20)
    wait_for(lambda: consumer.stats().flow_controlled >= 2)
    assert consumer.stats().cached_messages <= 2 * 30
    assert len(poll_all(consumer, 200)) == 200


def test_a_bound_over_all_queues(lite: Any, producer: Producer) -> None:
    send(producer, 100, queue(0))
    send(producer, 100, queue(1))
    consumer = assigned(lite, queue(0), queue(1), max_cached_messages=30)
    wait_for(lambda: consumer.stats().flow_controlled >= 2)
    assert consumer.stats().cached_messages <= 30 + 2 * 10
    assert len(poll_all(consumer, 200)) == 200
    consumer.seek_to_begin(queue(0))
    assert len(poll_all(consumer, 100)) == 100, "what a seek throws away no longer counts"


# Offsets that brokers refuse


def test_an_offset_that_the_queue_has_not_goes_on_where_the_broker_says(
    lite: Any, producer: Producer, cluster: EmbeddedCluster
) -> None:
    send(producer, 10, queue())
    with PullConsumer(GROUP, namesrv=cluster.namesrv) as pulls:
        pulls.update_offset(queue(), 5000)
    consumer = assigned(lite)
    assert consumer.poll(0.3) == []
    consumer.commit()
    assert consumer.committed(queue()) == 10
    send(producer, 1, queue(), first=10)
    assert poll_all(consumer, 1) == [b"10"]


def test_an_operator_resets_offsets_at_the_broker(lite: Any, producer: Producer, cluster: EmbeddedCluster) -> None:
    """Given cached messages, when a pull is answered with an earlier offset, then polls go on there and miss nothing."""
    send(producer, 40, queue())
    consumer = assigned(lite, max_cached_messages_per_queue=10)
    wait_for(lambda: consumer.stats().cached_messages == 20)
    cluster.brokers["broker-a"].offsets.resets[GROUP, TOPIC, 0] = 5
    got = [offset for _ in range(6) for offset in offsets(consumer)]
    assert set(got) == set(range(40))
    assert got[-35:] == list(range(5, 40)), "from there on in order"


# Rebalance


def test_two_members_share_the_queues(lite: Any, producer: Producer) -> None:
    told: list[tuple[str, int, int]] = []
    bodies = send(producer, 40)

    def on_rebalance(topic: str, everyone: list[MessageQueue], mine: list[MessageQueue]) -> None:
        told.append((topic, len(everyone), len(mine)))
        raise RuntimeError("an error in it harms nothing")

    first, second = lite(on_rebalance=on_rebalance), lite()
    first.subscribe(TOPIC)
    first.start()
    wait_for(lambda: told == [(TOPIC, 4, 4)])
    got = poll_all(first, 40)
    first.commit()
    second.subscribe(TOPIC)
    second.start()
    wait_for(lambda: (len(first.queues()), len(second.queues())) == (2, 2), SOON)
    wait_for(lambda: told[1:] == [(TOPIC, 4, 2)])
    more = send(producer, 40, first=40)
    wait_for(lambda: got.extend(m.body for c in (first, second) for m in c.poll(0)) or len(got) >= 80, SOON)
    assert sorted(got) == sorted(bodies + more), "committed before the change, so nothing comes twice"
    second.shutdown()
    wait_for(lambda: len(first.queues()) == 4, SOON)
    first.unsubscribe(TOPIC)
    assert first.queues() == []
    wait_for(lambda: told[-1] == (TOPIC, 4, 0))


def test_a_queue_that_moves_is_taken_over_at_the_commit(lite: Any, producer: Producer) -> None:
    send(producer, 80)
    first, second = lite(), lite()
    first.subscribe(TOPIC)
    first.start()
    wait_for(lambda: first.stats().cached_messages == 80)
    committed = {message.body for message in first.poll(SOON)}
    first.commit()
    more = [first.poll(SOON) for _ in range(4)]  # each of another queue
    second.subscribe(TOPIC)
    second.start()
    wait_for(lambda: (len(first.queues()), len(second.queues())) == (2, 2), SOON)
    committed |= {message.body for batch in more if batch[0].message_queue in first.queues() for message in batch}
    first.commit()  # the queues that have moved are the other's now
    first.shutdown()
    wait_for(lambda: len(second.queues()) == 4, SOON)
    got: list[bytes] = []
    wait_for(lambda: got.extend(m.body for m in second.poll(0)) or len(got) >= 80 - len(committed), SOON)
    assert len(committed | set(got)) == 80
    assert not committed & set(got)


def test_a_topic_that_comes_later(lite: Any, cluster: EmbeddedCluster, producer: Producer) -> None:
    consumer = lite(route_poll_interval=0.1)
    consumer.subscribe("later")
    consumer.start()
    assert consumer.poll(0.1) == []
    cluster.create_topic("later", queues=1)
    producer.send(Message("later", b"x"))
    assert poll_all(consumer, 1) == [b"x"]


def test_subscribing_while_it_runs(lite: Any, cluster: EmbeddedCluster, producer: Producer) -> None:
    cluster.create_topic("other", queues=1)
    producer.send(Message("other", b"x"))
    send(producer, 1)
    consumer = lite()
    consumer.subscribe(TOPIC)
    consumer.start()
    assert poll_all(consumer, 1) == [b"0"]
    consumer.subscribe("other")
    assert poll_all(consumer, 1) == [b"x"]
    assert {one.topic for one in consumer.queues()} == {TOPIC, "other"}


# Assigning


def test_assign_changes_while_it_runs(lite: Any, producer: Producer) -> None:
    send(producer, 20, queue(0))
    send(producer, 20, queue(1))
    consumer = lite()
    consumer.start()
    queues = consumer.fetch_subscribe_queues(TOPIC)
    assert len(queues) == 4
    consumer.assign(queues[:1])
    assert offsets(consumer) == list(range(10))
    consumer.assign(queues[:2])
    assert consumer.queues() == queues[:2]
    got = [(message.queue_id, message.queue_offset) for _ in range(3) for message in consumer.poll(SOON)]
    assert sorted(got) == [(0, n) for n in range(10, 20)] + [(1, n) for n in range(20)], "a queue it keeps goes on"
    consumer.assign(queues[1:2], "none")
    send(producer, 5, queue(1))
    assert consumer.poll(0.2) == []


def test_assigned_queues_are_nobody_elses_business(lite: Any, producer: Producer, cluster: EmbeddedCluster) -> None:
    send(producer, 10, queue())
    one, two = assigned(lite), assigned(lite)
    assert offsets(one) == offsets(two) == list(range(10))
    client = cluster.brokers["broker-a"].clients.consumers
    assert GROUP in str(client)


def test_assigned_queues_of_a_broker_that_is_away_come_back(lite: Any, producer: Producer, cluster: EmbeddedCluster) -> None:
    send(producer, 1, queue(0, "broker-b"))
    send(producer, 1, queue())
    cluster.stop_broker("broker-b", keep_data=True)
    consumer = assigned(lite, queue(), queue(0, "broker-b"))
    assert poll_all(consumer, 1) == [b"0"]
    cluster.start_broker("broker-b")
    assert poll_all(consumer, 1) == [b"0"]


# Operators


def test_an_operator_resets_offsets(hundred: LitePullConsumer, cluster: EmbeddedCluster) -> None:
    hundred.reset_offsets({queue(): 70, queue(1): 3})
    assert offsets(hundred) == list(range(70, 80))
    assert stored(cluster, queue()) == 70
    assert hundred.offsets(TOPIC) == {queue(): 70}


def test_operators_see_its_state(hundred: LitePullConsumer) -> None:
    info = hundred.running_info()
    assert info.properties["PROP_CONSUME_TYPE"] == "CONSUME_ACTIVELY"
    assert info.properties["auto_commit"] == "False"
    assert list(info.mq_table) == [queue()]
    assert "no listener" in (hundred.consume_directly(hundred.poll(SOON)[0]).remark or "")


# One pull at a time


def test_pull_through_a_queue(pulling: PullConsumer, producer: Producer) -> None:
    send(producer, 75, queue(1))
    assert pulling.fetch_subscribe_queues(TOPIC) == [queue(n, b) for b in ("broker-a", "broker-b") for n in (0, 1)]
    got, offset = [], pulling.min_offset(queue(1))
    while (result := pulling.pull(queue(1), "*", offset, 20)).status is PullStatus.FOUND:
        assert (result.min_offset, result.max_offset) == (0, 75)
        got += [message.body for message in result.messages]
        offset = result.next_begin_offset
    assert result.status is PullStatus.NO_NEW_MSG
    assert got == [b"%d" % number for number in range(75)]
    assert offset == result.next_begin_offset == 75


def test_pull_statuses(pulling: PullConsumer, producer: Producer) -> None:
    send(producer, 3, queue(), tags="a")
    assert pulling.pull(queue(), "b", 0).status is PullStatus.NO_MATCHED_MSG
    assert len(pulling.pull(queue(), "b || a", 0).messages) == 3
    assert len(pulling.pull(queue(), None, 1).messages) == 2
    refused = pulling.pull(queue(), "*", 1000)
    assert (refused.status, refused.next_begin_offset) == (PullStatus.OFFSET_ILLEGAL, 3)


def test_a_blocking_pull_waits_for_messages(pulling: PullConsumer, producer: Producer) -> None:
    began = time.monotonic()
    assert pulling.pull(queue(), "*", 0).status is PullStatus.NO_NEW_MSG
    assert time.monotonic() - began < 1
    waiting = pulling.pull_async(queue(), "*", 0, block=True)
    gevent.sleep(0.2)
    assert not waiting.ready()
    send(producer, 1, queue())
    assert [message.body for message in waiting.get(timeout=SOON).messages] == [b"0"]


def test_async_pulls_end_with_an_error_or_with_the_consumer(cluster: EmbeddedCluster) -> None:
    consumer = PullConsumer("pullers", namesrv=cluster.namesrv)
    consumer.start()
    with pytest.raises(RouteNotFoundError):
        consumer.pull_async(queue(topic="nowhere"), "*", 0).get(timeout=SOON)
    waiting = consumer.pull_async(queue(), "*", 0, block=True)
    fresh = consumer.pull_async(queue(1), "*", 0, block=True)
    gevent.sleep(0.1)
    consumer.shutdown()
    for one in (waiting, fresh):
        with pytest.raises(ClientStateError):
            one.get(timeout=1)


def test_offsets_at_the_broker(pulling: PullConsumer, producer: Producer, cluster: EmbeddedCluster) -> None:
    assert pulling.fetch_offset(queue(1)) in (None, 0)
    pulling.update_offset(queue(1), 7)
    assert pulling.fetch_offset(queue(1)) == stored(cluster, queue(1), "pullers") == 7
    pulling.update_offset(queue(1), 3)
    assert pulling.fetch_offset(queue(1)) == 3, "back is allowed"
    cluster.control(RequestCode.UPDATE_CONSUMER_OFFSET, answer(ResponseCode.SYSTEM_ERROR), times=1)
    with pytest.raises(BrokerError):
        pulling.update_offset(queue(1), 9)
    assert pulling.fetch_offset(queue(1)) == 3


def test_pull_sends_back(producer: Producer) -> None:
    with EmbeddedCluster(delay_levels=(0.05,) * 18) as cluster:
        cluster.create_topic(TOPIC, queues=1)
        namesrv = cluster.namesrv
        with Producer("w2", namesrv=namesrv) as writing, PullConsumer("pullers", namesrv=namesrv) as consumer:
            send(writing, 1)
            message = consumer.pull(queue(), "*", 0).messages[0]
            consumer.send_back(message, 1)
            retry = MessageQueue("%RETRY%pullers", "broker-a", 0)
            again = consumer.pull(retry, "*", 0, block=True, timeout=10).messages
            assert [(one.body, one.reconsume_times) for one in again] == [(message.body, 1)]


@pytest.mark.parametrize(
    "arguments",
    [(queue(), "||", 0), (queue(), "*", -1), (queue(), "*", 0, 0), (queue(), Sql(""), 0), (queue(), Sql("a >"), 0)],
    ids=str,
)
def test_a_pull_that_cannot_work(pulling: PullConsumer, arguments: Any) -> None:
    with pytest.raises(ConfigError):
        pulling.pull(*arguments)


def test_pull_consumer_before_start_and_its_state(cluster: EmbeddedCluster, pulling: PullConsumer) -> None:
    consumer = PullConsumer("pullers", namesrv=cluster.namesrv)
    for call in (
        lambda: consumer.pull(queue(), "*", 0),
        lambda: consumer.pull_async(queue(), "*", 0),
        lambda: consumer.fetch_offset(queue()),
        lambda: consumer.update_offset(queue(), 1),
        lambda: consumer.fetch_subscribe_queues(TOPIC),
    ):
        with pytest.raises(ClientStateError):
            call()
    with pytest.raises(ConfigError):
        pulling.update_offset(queue(), -1)
    assert pulling.running_info().properties["PROP_CONSUME_TYPE"] == "CONSUME_ACTIVELY"


def test_brokers_know_it_as_a_consumer(pulling: PullConsumer) -> None:
    pulling.fetch_subscribe_queues(TOPIC)
    assert pulling.consumer_ids("pullers", TOPIC) == [pulling.client_id]
