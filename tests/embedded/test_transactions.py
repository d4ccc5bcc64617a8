"""Transactions: half messages, their ends, and what happens when a broker does not hear of an end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import gevent
import pytest
from gevent.event import Event

from grocketmq import (
    ConfigError,
    LocalTransactionState,
    Message,
    MessageError,
    MessageExt,
    MessageQueue,
    Producer,
    PullConsumer,
    SendError,
    SendStatus,
    TransactionProducer,
)
from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded.control import Intercepted, answer, close, drop
from grocketmq.producer import checks
from grocketmq.wire.flags import MessageSysFlag, RpcFlag
from tests.helpers import wait_for

COMMIT, ROLLBACK, UNKNOWN = LocalTransactionState.COMMIT, LocalTransactionState.ROLLBACK, LocalTransactionState.UNKNOWN
T0 = MessageQueue("T", "broker-a", 0)
#: Seconds until a half message is asked for, by the clock of the cluster.
ROUND = 31.0


@pytest.fixture
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(client_expiry=1e9) as cluster:  # clients whose heartbeats follow no moved clock
        cluster.create_topic("T", queues=1)
        yield cluster


class Local:
    """A local transaction whose outcome the test chooses."""

    def __init__(self, execute: Any = COMMIT, check: Any = COMMIT) -> None:
        self.outcomes = {"execute": execute, "check": check}
        self.executed: list[tuple[Message, Any]] = []
        self.checked: list[MessageExt] = []

    def execute(self, msg: Message, arg: Any) -> Any:
        self.executed.append((msg, arg))
        return self._give("execute")

    def check(self, msg: MessageExt) -> Any:
        self.checked.append(msg)
        return self._give("check")

    def _give(self, name: str) -> Any:
        outcome = self.outcomes[name]
        if callable(outcome):
            outcome = outcome()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


@contextmanager
def transactional(cluster: EmbeddedCluster, local: Local, **options: Any) -> Iterator[TransactionProducer]:
    """A running producer that all brokers know."""
    options.setdefault("group", "tx")
    before = registered(cluster, options["group"])
    with TransactionProducer(namesrv=cluster.namesrv, execute=local.execute, check=local.check, **options) as producer:
        wait_for(lambda: registered(cluster, options["group"]) == before + len(cluster.brokers))
        yield producer


def registered(cluster: EmbeddedCluster, group: str) -> int:
    return sum(len(broker.clients.producers.get(group, ())) for broker in cluster.brokers.values())


def stored(cluster: EmbeddedCluster, count: int) -> list[MessageExt]:
    """What consumers can get, once it is ``count`` messages and stays so."""
    queue = cluster.brokers["broker-a"].store.queue("T", 0)
    wait_for(lambda: cluster.brokers["broker-a"].store.queue("T", 0).max_offset == count)
    gevent.sleep(0.03)
    queue = cluster.brokers["broker-a"].store.queue("T", 0)
    assert queue.max_offset == count
    with PullConsumer("readers", namesrv=cluster.namesrv) as consumer:
        return consumer.pull(T0, "*", 0).messages if count else []


def pending(cluster: EmbeddedCluster) -> int:
    return len(cluster.brokers["broker-a"].transactions.pending)


# -- the three states


def test_commit(cluster: EmbeddedCluster) -> None:
    local = Local(COMMIT)
    with transactional(cluster, local) as producer:
        msg = Message("T", b"x" * 5000, tags="a", keys="k", properties={"own": "1"}, flag=7)
        result = producer.send_in_transaction(msg, "the argument")
        assert (result.status, result.local_transaction_state, result.exception) == (SendStatus.SEND_OK, COMMIT, None)
        assert result.msg_id == result.transaction_id == msg.transaction_id
        assert result.message_queue == T0
        assert [(executed, arg) for executed, arg in local.executed] == [(msg, "the argument")]
        [message] = stored(cluster, 1)
        assert (message.body, message.tags, message.keys, message.flag) == (b"x" * 5000, "a", "k", 7)
        assert (message.properties["own"], message.msg_id) == ("1", result.msg_id)
        assert message.sys_flag & MessageSysFlag.TRANSACTION_MASK == MessageSysFlag.TRANSACTION_COMMIT
        assert not {"TRAN_MSG", "PGROUP"} & msg.properties.keys(), "the message of the caller is as it was"
        producer.send(msg)  # so it can be sent without a transaction
        assert len(stored(cluster, 2)) == 2
        cluster.clock.advance(ROUND)
        wait_for(lambda: pending(cluster) == 0)
    assert local.checked == []


def test_rollback(cluster: EmbeddedCluster) -> None:
    local = Local(ROLLBACK)
    with transactional(cluster, local) as producer:
        result = producer.send_in_transaction(Message("T", b"x"))
        assert (result.local_transaction_state, result.exception) == (ROLLBACK, None)
        cluster.clock.advance(ROUND)
        wait_for(lambda: pending(cluster) == 0)
        stored(cluster, 0)
    assert local.checked == []


@pytest.mark.parametrize(("state", "count"), [(COMMIT, 1), (ROLLBACK, 0)])
def test_unknown_is_asked_for(state: LocalTransactionState, count: int, cluster: EmbeddedCluster) -> None:
    local = Local(UNKNOWN, state)
    with transactional(cluster, local) as producer:
        result = producer.send_in_transaction(Message("T", b"x", keys="k"))
        assert result.local_transaction_state is UNKNOWN
        stored(cluster, 0)
        assert pending(cluster) == 1
        cluster.clock.advance(ROUND)
        [half] = wait_for(lambda: local.checked)
        assert (half.topic, half.body, half.keys) == ("T", b"x", "k")
        assert half.transaction_id == result.transaction_id
        assert half.broker_name == "broker-a"
        stored(cluster, count)
        cluster.clock.advance(ROUND)
        wait_for(lambda: pending(cluster) == 0)
        stored(cluster, count)
    assert len(local.checked) == 1


def test_unknown_again_and_again_ends_aside(cluster: EmbeddedCluster) -> None:
    local = Local(UNKNOWN, UNKNOWN)
    with transactional(cluster, local) as producer:
        producer.send_in_transaction(Message("T", b"x"))
        for count in range(1, 16):
            cluster.clock.advance(ROUND)
            wait_for(lambda count=count: len(local.checked) == count)  # type: ignore[misc]
        assert [half.properties["TRANSACTION_CHECK_TIMES"] for half in local.checked] == [str(n) for n in range(1, 16)]
        cluster.clock.advance(ROUND)
        wait_for(lambda: pending(cluster) == 0)
        stored(cluster, 0)
    aside = cluster.brokers["broker-a"].store.queue("TRANS_CHECK_MAX_TIME_TOPIC", 0)
    assert aside.max_offset == 1


# -- what goes wrong in the application


class Slip(Exception):
    """An application's own."""


@pytest.mark.parametrize("slip", [Slip("no database"), None, True, "COMMIT"])
def test_execute_that_fails_is_unknown(slip: Any, cluster: EmbeddedCluster, caplog: pytest.LogCaptureFixture) -> None:
    local = Local(slip, COMMIT)
    ends = cluster.control(RequestCode.END_TRANSACTION, Intercepted.serve, times=None)
    remarks: list[str | None] = []
    ends.action = lambda taken: (remarks.append(taken.request.remark), taken.serve())
    with transactional(cluster, local) as producer:
        result = producer.send_in_transaction(Message("T", b"x"))
        assert result.local_transaction_state is UNKNOWN
        assert result.exception is slip if isinstance(slip, Exception) else isinstance(result.exception, TypeError)
        cluster.clock.advance(ROUND)
        stored(cluster, 1)
    assert len(local.checked) == 1
    assert "execute" in caplog.text
    assert remarks[0] is not None
    assert remarks[0].startswith(("Slip: no database", "TypeError: execute returned"))


@pytest.mark.parametrize("slip", [Slip("no database"), gevent.Timeout(), None])
def test_check_that_fails_is_asked_again(slip: Any, cluster: EmbeddedCluster, caplog: pytest.LogCaptureFixture) -> None:
    outcomes = iter([slip, COMMIT])
    local = Local(UNKNOWN, lambda: next(outcomes))
    with transactional(cluster, local) as producer:
        producer.send_in_transaction(Message("T", b"x"))
        for count in (1, 2):
            cluster.clock.advance(ROUND)
            wait_for(lambda count=count: len(local.checked) == count)  # type: ignore[misc]
        stored(cluster, 1)
    assert "check of transaction group tx failed" in caplog.text


def test_execute_that_is_killed_has_no_end(cluster: EmbeddedCluster) -> None:
    local = Local(lambda: gevent.sleep(30), ROLLBACK)
    ends = cluster.control(RequestCode.END_TRANSACTION, Intercepted.serve, times=None)
    with transactional(cluster, local) as producer:
        with gevent.Timeout(0.1, False):
            producer.send_in_transaction(Message("T", b"x"))
        gevent.sleep(0.02)
        assert (ends.seen, pending(cluster), len(local.executed)) == (0, 1, 1)
        cluster.clock.advance(ROUND)
        wait_for(lambda: ends.seen == 1)
        stored(cluster, 0)
        assert not producer._executing


@pytest.mark.parametrize("state", [COMMIT, ROLLBACK])
def test_a_broker_that_asks_while_execute_runs(state: LocalTransactionState, cluster: EmbeddedCluster) -> None:
    """Its question moves the half message to another place; only that one must be ended, or the message came twice."""
    done = Event()
    local = Local(lambda: done.wait() and state, COMMIT)
    with transactional(cluster, local) as producer:
        sending = gevent.spawn(producer.send_in_transaction, Message("T", b"x"))
        wait_for(lambda: local.executed)
        places = cluster.brokers["broker-a"].transactions.pending
        for _ in range(3):
            before = dict(places)
            cluster.clock.advance(ROUND)
            wait_for(lambda before=before: places != before)  # type: ignore[misc]
        gevent.sleep(0.02)
        done.set()
        assert sending.get(timeout=5).local_transaction_state is state
        cluster.clock.advance(ROUND)
        wait_for(lambda: not places)
        stored(cluster, 1 if state is COMMIT else 0)
    assert local.checked == []


@pytest.mark.parametrize(("state", "contrary"), [(COMMIT, COMMIT), (COMMIT, ROLLBACK), (ROLLBACK, COMMIT)])
def test_a_broker_that_asks_before_it_notes_the_end(
    state: LocalTransactionState, contrary: LocalTransactionState, cluster: EmbeddedCluster
) -> None:
    """Given an end shortly before a round of checks, the broker asks for what was ended; it is neither committed twice nor
    after a rollback."""
    local = Local(lambda: cluster.clock.advance(29.0) or state, contrary)
    with transactional(cluster, local) as producer:
        asked = cluster.control(RequestCode.END_TRANSACTION, Intercepted.serve, nth=2, times=None)
        producer.send_in_transaction(Message("T", b"x"))
        cluster.clock.advance(1.5)
        wait_for(lambda: asked.taken == 1)
        cluster.clock.advance(ROUND)
        wait_for(lambda: pending(cluster) == 0)
        stored(cluster, 1 if state is COMMIT else 0)
    assert local.checked == []


def test_a_message_that_is_sent_again_is_another_transaction(cluster: EmbeddedCluster) -> None:
    states = iter([COMMIT, UNKNOWN])
    local = Local(lambda: next(states), COMMIT)
    with transactional(cluster, local) as producer:
        msg = Message("T", b"x")
        first, second = (producer.send_in_transaction(msg) for _ in range(2))
        assert first.transaction_id == second.transaction_id
        cluster.clock.advance(ROUND)
        stored(cluster, 2)
    assert len(local.checked) == 1


def test_a_half_that_was_stored_twice_is_delivered_once(cluster: EmbeddedCluster) -> None:
    """The answer to the first try is lost, the second try is committed, and the broker asks for what the first one left."""

    def serve_silently(taken: Intercepted) -> None:
        taken.request.flag |= RpcFlag.ONEWAY
        taken.serve()

    local = Local(COMMIT, COMMIT)
    with transactional(cluster, local, try_timeout=0.1) as producer:
        cluster.control(RequestCode.SEND_MESSAGE_V2, serve_silently)
        producer.send_in_transaction(Message("T", b"x"))
        assert cluster.brokers["broker-a"].store.queue("RMQ_SYS_TRANS_HALF_TOPIC", 0).max_offset == 2
        for _ in range(2):
            cluster.clock.advance(ROUND)
            gevent.sleep(0.05)
        stored(cluster, 1)
        assert pending(cluster) == 0


# -- what goes wrong on the way


def test_no_half_no_execution(cluster: EmbeddedCluster) -> None:
    local = Local()
    with transactional(cluster, local, retries=0) as producer:
        cluster.control(RequestCode.SEND_MESSAGE_V2, answer(ResponseCode.SYSTEM_ERROR, "full"))
        with pytest.raises(SendError, match="full"):
            producer.send_in_transaction(Message("T", b"x"))
    assert local.executed == []


def test_a_half_that_is_not_stored_in_full_is_rolled_back(cluster: EmbeddedCluster) -> None:
    local = Local()
    ends = cluster.control(RequestCode.END_TRANSACTION, Intercepted.serve, times=None)
    with transactional(cluster, local) as producer:
        fields = {"msgId": "7F000001" + "0" * 24, "queueId": "0", "queueOffset": "0"}
        cluster.control(RequestCode.SEND_MESSAGE_V2, answer(ResponseCode.FLUSH_DISK_TIMEOUT, None, fields))
        result = producer.send_in_transaction(Message("T", b"x"))
        assert (result.status, result.local_transaction_state) == (SendStatus.FLUSH_DISK_TIMEOUT, ROLLBACK)
        wait_for(lambda: ends.seen == 1)
    assert local.executed == []


@pytest.mark.parametrize("fault", [drop, close])
def test_an_end_that_is_lost_is_asked_for(fault: Any, cluster: EmbeddedCluster) -> None:
    local = Local(COMMIT, COMMIT)
    with transactional(cluster, local, heartbeat_interval=0.05, send_timeout=0.3) as producer:
        lost = cluster.control(RequestCode.END_TRANSACTION, fault)
        assert producer.send_in_transaction(Message("T", b"x")).local_transaction_state is COMMIT
        wait_for(lambda: lost.taken == 1)
        wait_for(lambda: registered(cluster, "tx") == 1)
        cluster.clock.advance(ROUND)
        stored(cluster, 1)
    assert len(local.checked) == 1


def test_an_end_that_cannot_be_sent_does_not_hide_the_outcome(
    cluster: EmbeddedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    local = Local(lambda: cluster.stop_broker("broker-a") or COMMIT)
    with transactional(cluster, local, send_timeout=0.5) as producer:
        result = producer.send_in_transaction(Message("T", b"x"))
        assert result.local_transaction_state is COMMIT
        assert "COMMIT of transaction" in caplog.text
        cluster.start_broker("broker-a")
        assert pending(cluster) == 1


def test_what_end_transaction_carries(cluster: EmbeddedCluster) -> None:
    """The topic and the broker's name too, by which brokers and proxies route and authorize."""
    taken: list[dict[str, str | None]] = []
    ends = cluster.control(RequestCode.END_TRANSACTION, Intercepted.serve, times=None)
    ends.action = lambda one: (taken.append(dict(one.request.ext_fields or {})), one.serve())
    local = Local(UNKNOWN, COMMIT)
    with transactional(cluster, local) as producer:
        result = producer.send_in_transaction(Message("T", b"x"))
        cluster.clock.advance(ROUND)
        wait_for(lambda: len(taken) == 2)
    direct, asked = taken
    same = {"topic": "T", "bname": "broker-a", "producerGroup": "tx", "msgId": result.msg_id, "transactionId": result.msg_id}
    assert direct.items() >= {**same, "commitOrRollback": "0", "fromTransactionCheck": "false"}.items()
    assert asked.items() >= {**same, "commitOrRollback": "8", "fromTransactionCheck": "true"}.items()
    assert (direct["tranStateTableOffset"], asked["tranStateTableOffset"]) == ("0", "1")


# -- immunity


def test_immunity_time(cluster: EmbeddedCluster) -> None:
    local = Local(UNKNOWN, COMMIT)
    with transactional(cluster, local) as producer:
        producer.send_in_transaction(Message("T", b"x"), immunity_time=99.5)
        producer.send_in_transaction(Message("T", b"y"))
        cluster.clock.advance(ROUND)
        wait_for(lambda: [half.body for half in local.checked] == [b"y"])
        for _ in range(2):
            cluster.clock.advance(ROUND)
            gevent.sleep(0.02)
        assert len(local.checked) == 1
        cluster.clock.advance(ROUND)
        wait_for(lambda: [half.body for half in local.checked] == [b"y", b"x"])
        assert local.checked[1].properties["CHECK_IMMUNITY_TIME_IN_SECONDS"] == "100"
        stored(cluster, 2)


def test_an_end_that_comes_after_its_immunity_time_is_left_to_the_check(cluster: EmbeddedCluster) -> None:
    local = Local(lambda: cluster.clock.advance(11.0) or COMMIT, COMMIT)
    with transactional(cluster, local) as producer:
        assert producer.send_in_transaction(Message("T", b"x"), immunity_time=10.0).local_transaction_state is COMMIT
        stored(cluster, 0)
        cluster.clock.advance(ROUND)
        stored(cluster, 1)
    assert len(local.checked) == 1


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_an_immunity_time_that_is_none(seconds: float, cluster: EmbeddedCluster) -> None:
    with transactional(cluster, Local()) as producer, pytest.raises(MessageError, match="immunity_time"):
        producer.send_in_transaction(Message("T", b"x"), immunity_time=seconds)


# -- groups


def test_another_member_of_the_group_is_asked(cluster: EmbeddedCluster) -> None:
    """It has never sent a message, and its brokers know it all the same."""
    first, second = Local(UNKNOWN, COMMIT), Local(check=COMMIT)
    with transactional(cluster, second, instance_name="second"):
        with transactional(cluster, first, instance_name="first") as producer:
            producer.send_in_transaction(Message("T", b"x"))
        wait_for(lambda: registered(cluster, "tx") == 1)
        cluster.clock.advance(ROUND)
        stored(cluster, 1)
    assert (len(first.checked), len(second.checked)) == (0, 1)


def test_every_broker_knows_whom_to_ask() -> None:
    with EmbeddedCluster(brokers=3, auto_create_topics=False) as cluster, transactional(cluster, Local()):
        assert registered(cluster, "tx") == 3


def test_a_group_that_nobody_here_answers_for(cluster: EmbeddedCluster, caplog: pytest.LogCaptureFixture) -> None:
    """Given a plain producer of the group, it is asked, and the broker asks again when there is somebody who knows."""
    local = Local(UNKNOWN, COMMIT)
    with Producer("tx", namesrv=cluster.namesrv, instance_name="plain") as plain:
        plain.send(Message("T", b"plain"))
        with transactional(cluster, local, instance_name="first") as producer:
            producer.send_in_transaction(Message("T", b"x"))
        wait_for(lambda: registered(cluster, "tx") == 1)
        cluster.clock.advance(ROUND)
        wait_for(lambda: "group tx, which has no checker here" in caplog.text)
    with transactional(cluster, local):
        cluster.clock.advance(ROUND)
        stored(cluster, 2)


def test_one_transactional_producer_of_a_group_in_an_instance(cluster: EmbeddedCluster) -> None:
    local = Local(UNKNOWN, COMMIT)
    with transactional(cluster, local) as producer:
        second = TransactionProducer("tx", namesrv=cluster.namesrv, execute=local.execute, check=local.check)
        with pytest.raises(ConfigError, match="instance_name"):
            second.start()
        producer.send_in_transaction(Message("T", b"x"))
        cluster.clock.advance(ROUND)
        stored(cluster, 1)
    assert len(local.checked) == 1, "the first one's is still there"


@pytest.mark.parametrize(
    "options", [{"execute": None}, {"check": "no"}, {"check_pool_size": 0}, {"check_pool_size": 1.5}, {"check_pool_size": "2"}]
)
def test_options_that_cannot_work(options: dict[str, Any]) -> None:
    given: dict[str, Any] = {"execute": print, "check": print, "namesrv": "127.0.0.1:9876", **options}
    with pytest.raises(ConfigError, match=next(iter(options))):
        TransactionProducer("tx", **given)


# -- the pool


def test_slow_checks_hold_up_neither_sends_nor_each_other(cluster: EmbeddedCluster) -> None:
    running, most, release = 0, 0, Event()

    def slow() -> LocalTransactionState:
        nonlocal running, most
        running += 1
        most = max(most, running)
        release.wait()
        running -= 1
        return COMMIT

    local = Local(UNKNOWN, slow)
    with transactional(cluster, local, check_pool_size=3) as producer:
        for number in range(10):
            producer.send_in_transaction(Message("T", b"%d" % number))
        cluster.clock.advance(ROUND)
        wait_for(lambda: most == 3)
        producer.send(Message("T", b"plain"))
        release.set()
        stored(cluster, 11)
    assert (most, len(local.checked)) == (3, 10)


def test_too_many_checks_are_asked_again(
    cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checks, "MAX_WAITING", 2)
    release = Event()
    local = Local(UNKNOWN, lambda: release.wait() and COMMIT)
    with transactional(cluster, local, check_pool_size=1) as producer:
        for number in range(5):
            producer.send_in_transaction(Message("T", b"%d" % number))
        cluster.clock.advance(ROUND)
        wait_for(lambda: caplog.text.count("too many such questions") == 2)
        release.set()
        stored(cluster, 3)
        cluster.clock.advance(ROUND)
        stored(cluster, 5)


def test_shutdown_waits_for_checks(cluster: EmbeddedCluster) -> None:
    begun, release = Event(), Event()
    local = Local(UNKNOWN, lambda: begun.set() or (release.wait() and COMMIT))
    with ExitStack() as stack:
        producer = stack.enter_context(transactional(cluster, local))
        producer.send_in_transaction(Message("T", b"x"))
        cluster.clock.advance(ROUND)
        assert begun.wait(5)
        closing = gevent.spawn(producer.shutdown)
        gevent.sleep(0.05)
        assert not closing.dead
        release.set()
        closing.get(timeout=5)
    stored(cluster, 1)


# -- messages


def test_a_delay_is_taken_off(cluster: EmbeddedCluster, caplog: pytest.LogCaptureFixture) -> None:
    """As Java takes it off: brokers cannot have both."""
    with transactional(cluster, Local()) as producer:
        for delay in ({"delay_level": 3}, {"delay": 60.0}):
            msg = Message("T", b"x", **delay)  # type: ignore[arg-type]
            producer.send_in_transaction(msg)
            assert msg.is_delayed
        assert all(not message.is_delayed for message in stored(cluster, 2))
    assert "its delay is taken off" in caplog.text


def test_bad_messages(cluster: EmbeddedCluster) -> None:
    local = Local()
    with transactional(cluster, local) as producer:
        for msg in (Message("T", b""), Message("no topic!", b"x"), "text"):
            with pytest.raises(MessageError):
                producer.send_in_transaction(msg)  # type: ignore[arg-type]
    assert local.executed == []
