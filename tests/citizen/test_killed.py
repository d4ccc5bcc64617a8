"""A caller is killed at its first switch, at its second, ... until its call ends: nothing is held, nobody notices."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from types import CodeType
from typing import Any

import gevent
import pytest

from grocketmq import (
    AutoBatch,
    ConsumeFromWhere,
    LitePullConsumer,
    LocalTransactionState,
    Message,
    MessageQueue,
    MQClientManager,
    Producer,
    PullConsumer,
    PushConsumer,
    SimpleConsumer,
    Sql,
    TransactionProducer,
    create_reply,
)
from grocketmq.embedded import EmbeddedCluster
from grocketmq.remoting.connection import MAX_IN_FLIGHT
from tests.citizen.killing import MANY, Broken, Killed, killed_at

TOPIC, QUESTIONS, POPPED = "killed", "killed_questions", "killed_popped"
QUEUE = MessageQueue(TOPIC, "broker-a", 0)

#: So that no call has been made before.
NUMBERS = count(1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(brokers=2, recall_messages=True) as cluster:
        for topic in (TOPIC, QUESTIONS, POPPED):
            cluster.create_topic(topic)
        yield cluster


def check_connections(client: Any) -> None:
    """Every permit is back, but for calls of the client's own greenlets that wait for their answers."""

    def kept() -> list[Any]:
        peers = client._instance.remoting._peers.values()
        open_ones = [peer.connection for peer in peers if peer.connection is not None]
        return [one for one in open_ones if one._permits.counter + one.in_flight != MAX_IN_FLIGHT]

    with gevent.Timeout(5, AssertionError("permits are kept")):
        while kept():  # a greenlet that has its answer and not run yet
            gevent.sleep(0.001)


PRODUCER_CALLS: dict[str, Callable[[Producer], Any]] = {
    "send": lambda producer: producer.send(Message(TOPIC, b"x")),
    "send to a new topic": lambda producer: producer.send(Message("killed_new", b"x")),
    "large body": lambda producer: producer.send(Message(TOPIC, b"x" * 300_000)),
    "send_orderly": lambda producer: producer.send_orderly(Message(TOPIC, b"x"), "key"),
    "send_batch": lambda producer: producer.send_batch([Message(TOPIC, b"x"), Message(TOPIC, b"y")]),
    "send_async": lambda producer: producer.send_async(Message(TOPIC, b"x")).get(),
    "send_oneway": lambda producer: [producer.send_oneway(Message(TOPIC, b"x")) for _ in range(130)],
    "create_topic": lambda producer: producer.create_topic("killed_made"),
    "fetch_publish_queues": lambda producer: producer.fetch_publish_queues(TOPIC),
    "topic_list": lambda producer: producer.topic_list(),
    "topic_route": lambda producer: producer.topic_route(TOPIC),
    "max_offset": lambda producer: producer.max_offset(QUEUE),
    "min_offset": lambda producer: producer.min_offset(QUEUE),
    "search_offset": lambda producer: producer.search_offset(QUEUE, 0),
    "earliest_store_time": lambda producer: producer.earliest_store_time(QUEUE),
    "view_message": lambda producer: producer.view_message(producer.send(Message(TOPIC, b"x")).msg_id, TOPIC),
    "query_message": lambda producer: producer.query_message(TOPIC, "key"),
    "recall": lambda producer: producer.recall(TOPIC, producer.send(Message(TOPIC, b"x", delay=600)).recall_handle or ""),
    "request": lambda producer: producer.request(Message(QUESTIONS, b"x"), timeout=10),
}


@pytest.mark.parametrize("name", PRODUCER_CALLS)
def test_producer(cluster: EmbeddedCluster, name: str) -> None:
    with ExitStack() as stack:
        producer = stack.enter_context(Producer("killed", namesrv=cluster.namesrv))
        if name == "request":
            stack.enter_context(replier(cluster, producer))
        for number in range(1, MANY):
            for how in (Killed(), gevent.GreenletExit(), Broken()):
                came_so_far = killed_at(number, lambda: PRODUCER_CALLS[name](producer), how)
                result = producer.send(Message(TOPIC, "after"))
                assert producer.view_message(result.offset_msg_id).body == b"after"
            check_connections(producer)
            assert producer._sends.under_way == 0
            assert producer._requests._waiting == set()
            if not came_so_far:
                break
        else:
            pytest.fail("the call takes more switches than were tried")
        producer._tasks.join(10)
        assert producer._window.messages == 0


def replier(cluster: EmbeddedCluster, producer: Producer) -> PushConsumer:
    """To be started: replies to what is asked from now on."""
    consumer = PushConsumer("killed_repliers", namesrv=cluster.namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET)
    consumer.subscribe(QUESTIONS)
    consumer.register_listener(lambda msgs: [producer.send(create_reply(msg, b"y")) for msg in msgs])
    return consumer


def test_gathered_sends(cluster: EmbeddedCluster) -> None:
    """Those who are gathered with the one that is killed get their results."""
    with Producer("killed", namesrv=cluster.namesrv, auto_batch=AutoBatch(max_delay=0.005)) as producer:
        for number in range(1, MANY):
            other = gevent.spawn(producer.send, Message(TOPIC, "other"))
            came_so_far = killed_at(number, lambda: producer.send(Message(TOPIC, b"x")), Killed())
            assert other.get(timeout=10).msg_id
            check_connections(producer)
            assert producer._sends.under_way == 0
            if not came_so_far:
                return
        pytest.fail("the call takes more switches than were tried")


@pytest.mark.parametrize("state", LocalTransactionState)
def test_transaction(cluster: EmbeddedCluster, state: LocalTransactionState) -> None:
    """Killed in the half message, the local transaction or its end: nothing is held, and the next one ends as it should."""
    executed: list[str] = []

    def execute(msg: Message, arg: object) -> LocalTransactionState:
        gevent.sleep(0)
        executed.append(str(msg.transaction_id))
        return state

    with TransactionProducer(
        f"killed_{state.name.lower()}", execute=execute, check=lambda msg: state, namesrv=cluster.namesrv
    ) as producer:
        for number in range(1, MANY):
            came_so_far = killed_at(number, lambda: producer.send_in_transaction(Message(TOPIC, b"x")), Killed())
            assert producer._executing == {}
            assert producer._sends.under_way == 0
            result = producer.send_in_transaction(Message(TOPIC, b"x"))
            assert (result.local_transaction_state, executed[-1]) == (state, result.transaction_id)
            check_connections(producer)
            if not came_so_far:
                return
        pytest.fail("the call takes more switches than were tried")


def test_first_send_of_a_producer(cluster: EmbeddedCluster) -> None:
    """It fetches the route, connects, and sends; another caller, who shares the fetch, gets his answer all the same."""
    for number in range(1, MANY):
        with Producer("killed", namesrv=cluster.namesrv) as producer:
            other = gevent.spawn(producer.send, Message(TOPIC, "other"))
            came_so_far = killed_at(number, lambda producer=producer: producer.send(Message(TOPIC, b"x")), Killed())
            assert other.get(timeout=10).msg_id
            check_connections(producer)
        if not came_so_far:
            return
    pytest.fail("the call takes more switches than were tried")


def make(kind: str, cluster: EmbeddedCluster) -> Any:
    if kind == "producer":
        return Producer("killed", namesrv=cluster.namesrv)
    if kind == "pull":
        return PullConsumer("killed", namesrv=cluster.namesrv)
    if kind == "simple":
        simple = SimpleConsumer("killed_simple", namesrv=cluster.namesrv)
        simple.subscribe(TOPIC)
        return simple
    if kind == "lite":
        lite = LitePullConsumer("killed_lite", namesrv=cluster.namesrv)
        lite.subscribe(TOPIC)
        return lite
    if kind == "assigned":
        assigned = LitePullConsumer("killed_lite", namesrv=cluster.namesrv)
        assigned.assign([QUEUE])
        return assigned
    if kind == "manager":
        manager = MQClientManager(namesrv=cluster.namesrv)
        manager.register_producer(make("producer", cluster))
        manager.register_consumer(make("push", cluster))
        return manager
    if kind == "transactions":
        unknown = LocalTransactionState.UNKNOWN
        return TransactionProducer(
            "killed", execute=lambda msg, arg: unknown, check=lambda msg: unknown, namesrv=cluster.namesrv
        )
    consumer = PushConsumer(
        "killed_push", namesrv=cluster.namesrv, consume_from=ConsumeFromWhere.LAST_OFFSET, pop=kind == "pop"
    )
    consumer.subscribe(TOPIC)
    consumer.register_listener(lambda msgs: None, orderly=kind == "orderly")
    return consumer


@pytest.mark.parametrize(
    "kind",
    [
        "producer",
        "transactions",
        "pull",
        "simple",
        "lite",
        "assigned",
        "push",
        "orderly",
        "pop",
        pytest.param("manager", marks=pytest.mark.slow),
    ],
)
def test_start_and_shutdown(cluster: EmbeddedCluster, kind: str) -> None:
    """A start that was killed can be made again, and a shutdown be finished; what is left behind, the test's own rules find."""
    for step in ("start", "shutdown"):
        for number in range(1, MANY):
            client = make(kind, cluster)
            if step == "shutdown":
                client.start()
            came_so_far = killed_at(number, getattr(client, step), Killed())
            client.start() if step == "start" else None
            client.shutdown()
            with gevent.Timeout(5, AssertionError(f"locks are kept: {step} killed at {number}")):
                while any(broker.locks.any_held("killed_push") for broker in cluster.brokers.values()):
                    gevent.sleep(0.001)  # nobody waits for the answer when a lock is given back
            if not came_so_far:
                break
        else:
            pytest.fail("the call takes more switches than were tried")


CONSUMER_CALLS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "fetch_subscribe_queues": ("pull", lambda one: one.fetch_subscribe_queues(TOPIC)),
    "pull": ("pull", lambda one: one.pull(QUEUE, "*", 0)),
    "pull, filtered": ("pull", lambda one: one.pull(QUEUE, Sql(f"a > {next(NUMBERS)}"), 0)),
    "pull, held": ("pull", lambda one: one.pull(QUEUE, "*", one.max_offset(QUEUE), block=True, timeout=0.05)),
    "pull_async": ("pull", lambda one: one.pull_async(QUEUE, "*", 0).get()),
    "update_offset": ("pull", lambda one: one.update_offset(QUEUE, next(NUMBERS))),
    "fetch_offset": ("pull", lambda one: one.fetch_offset(QUEUE)),
    "reset_offsets": ("pull", lambda one: one.reset_offsets({QUEUE: next(NUMBERS)})),
    "consumer_ids": ("push", lambda one: one.consumer_ids("killed_push", TOPIC)),
    "receive": ("simple", lambda one: one.receive(wait=0)),
    "receive, held": ("simple", lambda one: one.receive(wait=0.05)),
    "subscribe to be received": ("simple", lambda one: one.subscribe("killed_too")),
    "poll": ("lite", lambda one: one.poll(0.05)),
    "commit": ("lite", lambda one: one.commit()),
    "committed": ("lite", lambda one: one.committed(QUEUE)),
    "seek": ("lite", lambda one: one.seek(one.queues()[0], 0)),
    "seek_to_begin": ("lite", lambda one: one.seek_to_begin(one.queues()[0])),
    "seek_to_end": ("lite", lambda one: one.seek_to_end(one.queues()[0])),
    "seek_to_timestamp": ("lite", lambda one: one.seek_to_timestamp(one.queues()[0], 0)),
    "pause": ("lite", lambda one: [change(one.queues()) for change in (one.pause, one.resume)]),
    "subscribe to be polled": ("lite", lambda one: one.subscribe("killed_too")),
    "unsubscribe from polling": ("lite", lambda one: one.unsubscribe("killed_too")),
    "assign": ("assigned", lambda one: one.assign([QUEUE, MessageQueue(TOPIC, "broker-b", next(NUMBERS) % 4)])),
    "subscribe": ("push", lambda one: one.subscribe("killed_too")),
    "unsubscribe": ("push", lambda one: one.unsubscribe("killed_too")),
    "suspend": ("push", lambda one: [change() for change in (one.suspend, one.resume)]),
    "rebalance": ("push", lambda one: one.rebalance()),
    "persist_offsets": ("push", lambda one: one.persist_offsets()),
    "reset_offsets of listeners": ("push", lambda one: one.reset_offsets({QUEUE: next(NUMBERS)})),
    "offsets": ("push", lambda one: one.offsets(TOPIC)),
    "running_info": ("push", lambda one: one.running_info()),
    "stats": ("push", lambda one: one.stats()),
    "rebalance, in order": ("orderly", lambda one: one.rebalance()),
    "rebalance, popping": ("pop", lambda one: one.rebalance()),
    "unsubscribe from receiving": ("simple", lambda one: one.unsubscribe("killed_too")),
    "fetch_subscribe_queues, polled": ("lite", lambda one: one.fetch_subscribe_queues(TOPIC)),
    "reset_offsets, polled": ("lite", lambda one: one.reset_offsets({QUEUE: next(NUMBERS)})),
    "rebalance, polled": ("lite", lambda one: one.rebalance()),
    "persist_offsets, polled": ("lite", lambda one: one.persist_offsets()),
    "running_info, polled": ("lite", lambda one: one.running_info()),
    "offsets, polled": ("lite", lambda one: one.offsets(TOPIC)),
    "stats, polled": ("lite", lambda one: one.stats()),
}


@pytest.mark.parametrize("name", CONSUMER_CALLS)
def test_consumer(cluster: EmbeddedCluster, name: str) -> None:
    kind, call = CONSUMER_CALLS[name]
    with make(kind, cluster) as client:
        for number in range(1, MANY):
            for how in (Killed(), Broken()):
                came_so_far = killed_at(number, lambda: call(client), how)
                call(client)
                check_connections(client)
            if not came_so_far:
                return
        pytest.fail("the call takes more switches than were tried")


#: Nothing to kill in: they name, tell or prepare.
QUIET = {
    "heartbeat_data",
    "listener",
    "orderly_listener",
    "register_listener",
    "topics",
    "register_producer",
    "register_consumer",
}
#: For those who look after clients, not for applications.
INNER = {"abandon", "bind", "undo_start", "instance", "release", "consume_directly"}


#: Killed in tests of their own, in every kind that has them.
ELSEWHERE = {"start", "shutdown", "ack", "change_invisible", "send_back", "send_in_transaction"}
#: The clients of :func:`make`, and of :data:`CONSUMER_CALLS`.
KINDS: dict[str, type] = {
    "producer": Producer,
    "transactions": TransactionProducer,
    "pull": PullConsumer,
    "lite": LitePullConsumer,
    "assigned": LitePullConsumer,
    "push": PushConsumer,
    "orderly": PushConsumer,
    "pop": PushConsumer,
    "simple": SimpleConsumer,
    "manager": MQClientManager,
}


def names_in(code: CodeType) -> set[str]:
    """What a function calls, and what the functions in it do."""
    return set(code.co_names).union(*(names_in(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


def tried() -> set[object]:
    """The methods that the tables call, as their classes have them; what several classes inherit counts for all."""
    calls = [("producer", call) for call in PRODUCER_CALLS.values()] + list(CONSUMER_CALLS.values())
    return {getattr(KINDS[kind], name, None) for kind, call in calls for name in names_in(call.__code__)}


@pytest.mark.parametrize("kind", list(dict.fromkeys(KINDS.values())), ids=lambda kind: kind.__name__)
def test_every_call_that_blocks_is_killed_here(kind: type) -> None:
    public = {name: member for name, member in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}
    done = tried()
    blocking = {
        name
        for name, member in public.items()
        if "never blocks" not in (member.__doc__ or "").split("\n\n")[0] and member not in done
    }
    assert blocking - QUIET - INNER - ELSEWHERE == set()


def test_acknowledging_what_was_popped(cluster: EmbeddedCluster) -> None:
    """A call that was killed can be made again, and then the message does not come any more."""
    consumer = SimpleConsumer("killed_popping", namesrv=cluster.namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET)
    consumer.subscribe(POPPED)
    with Producer("killed", namesrv=cluster.namesrv) as producer, consumer:
        for name in ("ack", "change_invisible"):
            call = consumer.ack if name == "ack" else lambda message: consumer.change_invisible(message, 300.0)
            for number in range(1, MANY):
                producer.send(Message(POPPED, b"x"))
                (message,) = consumer.receive(1, wait=5)
                came_so_far = killed_at(number, lambda message=message, call=call: call(message), Killed())
                call(message)
                check_connections(consumer)
                if not came_so_far:
                    break
            else:
                pytest.fail("the call takes more switches than were tried")


def test_sending_back(cluster: EmbeddedCluster) -> None:
    with Producer("killed", namesrv=cluster.namesrv) as producer, make("pull", cluster) as consumer:
        sent = producer.send(Message(TOPIC, b"x"))
        message = consumer.pull(sent.message_queue, "*", sent.queue_offset).messages[0]
        for number in range(1, MANY):
            came_so_far = killed_at(number, lambda: consumer.send_back(message, 3), Killed())
            consumer.send_back(message, 3)
            check_connections(consumer)
            if not came_so_far:
                return
        pytest.fail("the call takes more switches than were tried")


def test_a_poll_that_is_killed_loses_no_message(cluster: EmbeddedCluster) -> None:
    got: list[bytes] = []
    with Producer("killed", namesrv=cluster.namesrv) as producer, make("lite", cluster) as consumer:
        with gevent.Timeout(10, AssertionError("it gets no queues")):
            while not consumer.queues():
                gevent.sleep(0.001)
        consumer.seek_to_end(QUEUE)
        for number in range(1, MANY):
            body = str(number).encode()
            producer.send(Message(TOPIC, body), queue=QUEUE)
            came_so_far = killed_at(number, lambda: got.extend(msg.body for msg in consumer.poll(5)), Killed())
            with gevent.Timeout(10, AssertionError(f"{body!r} is lost")):
                while body not in got:
                    got.extend(msg.body for msg in consumer.poll(1))
            if not came_so_far:
                return
        pytest.fail("the call takes more switches than were tried")
