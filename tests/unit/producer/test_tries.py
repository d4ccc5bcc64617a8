"""What a send does when a try fails."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from grocketmq.errors import (
    BrokerError,
    BrokerSystemError,
    ClientStateError,
    ConfigError,
    ConnectError,
    ConnectionLostError,
    FlowControlError,
    GRocketMQError,
    MessageError,
    MessageIllegalError,
    NoPermissionError,
    NotLeaderError,
    RemoteProtocolError,
    RequestTimeout,
    RouteNotFoundError,
    SendError,
    ServiceNotAvailableError,
    SystemBusyError,
    TooManyRequestsError,
    TopicNotExistError,
    broker_error,
)
from grocketmq.model.message import Message
from grocketmq.model.properties import Property
from grocketmq.model.results import SendStatus
from grocketmq.model.route import MessageQueue
from tests.unit.client.fakes import route
from tests.unit.producer.fakes import Brokers, producer_with

TWO = {"T": route("a", "b")}
ONE = {"T": route("a", queues=4)}
QUEUE = MessageQueue("T", "a", 1)


def message() -> Message:
    return Message("T", b"x")


def once(error: Exception) -> object:
    """Fails the first time only."""
    answers: Iterator[object] = iter([error])
    return lambda *_: next(answers, None)


RETRIED = [
    ConnectError("refused"),
    ConnectionLostError("reset"),
    RequestTimeout("silent"),
    *(broker_error(code, "no", "a:1") for code in (1, 2, 14, 16, 17, 204, 205, 501, 1500)),
]
NOT_RETRIED = [
    TooManyRequestsError("full"),
    RemoteProtocolError("nonsense"),
    *(broker_error(code, "no", "a:1") for code in (3, 13, 29, 215, 4711)),
]


@pytest.mark.parametrize("error", RETRIED, ids=lambda error: f"{type(error).__name__}")
def test_a_failure_that_another_try_may_mend_is_tried_at_another_broker(error: GRocketMQError) -> None:
    brokers = Brokers(a=error)
    with producer_with(brokers, routes=TWO) as producer:
        for _ in range(4):
            assert producer.send(message()).message_queue.broker_name == "b"
    assert len(brokers.stored) == 4
    assert "a" in brokers.asked


@pytest.mark.parametrize("error", NOT_RETRIED, ids=lambda error: f"{type(error).__name__}{getattr(error, 'code', '')}")
def test_a_failure_that_no_try_can_mend_is_raised_as_it_is(error: GRocketMQError) -> None:
    brokers = Brokers(a=error, b=error)
    with producer_with(brokers, routes=TWO) as producer, pytest.raises(type(error)) as caught:
        producer.send(message())
    assert caught.value is error
    assert len(brokers.tries) == 1


@pytest.mark.parametrize(
    ("error", "refreshed"),
    [(ConnectError("x"), True), (TopicNotExistError(17, "", ""), True), (RequestTimeout("x"), False)],
)
def test_routes_are_fetched_anew_when_they_may_be_wrong(error: GRocketMQError, refreshed: bool) -> None:
    with producer_with(Brokers(a=error), routes=TWO, retries=1) as producer:
        for _ in range(4):
            producer.send(message())
        assert ("refresh_routes_soon" in producer._instance.events) is refreshed  # type: ignore[attr-defined]


def test_all_tries_are_told() -> None:
    """Given that every broker fails, when the tries are used up, then the error tells each of them."""
    brokers = Brokers(a=ServiceNotAvailableError(14, "closed", "a:10911"), b=RequestTimeout("silent"))
    with producer_with(brokers, routes=TWO, retries=2) as producer, pytest.raises(SendError) as caught:
        producer.send(message())
    attempts = caught.value.attempts
    assert [attempt.broker_name for attempt in attempts] == brokers.asked
    assert brokers.asked in (["a", "b", "a"], ["b", "a", "b"])
    assert caught.value.__cause__ is attempts[-1].error
    assert all(attempt.seconds >= 0 for attempt in attempts)
    assert "closed" in str(caught.value)
    assert "silent" in str(caught.value)
    assert "3 tries" in str(caught.value)


def test_one_broker_is_tried_again_after_a_pause() -> None:
    brokers = Brokers(a=once(SystemBusyError(2, "busy", "a:10911")))
    with producer_with(brokers, routes=ONE) as producer:
        result = producer.send(message())
    (first, _), (second, _) = brokers.tries
    assert first != second == result.message_queue


def test_no_retries() -> None:
    brokers = Brokers(a=ConnectError("refused"))
    with producer_with(brokers, routes=ONE, retries=0) as producer, pytest.raises(SendError) as caught:
        producer.send(message())
    assert len(caught.value.attempts) == len(brokers.tries) == 1


def test_every_try_sends_the_same_id() -> None:
    ids: list[str] = []
    brokers = Brokers(a=once(ConnectionLostError("reset")))
    send = brokers.api.answers["send"]
    brokers.api.answers["send"] = lambda *args: (ids.append(args[3]), send(*args))[1]
    one = message()
    with producer_with(brokers, routes=ONE) as producer:
        result = producer.send(one)
        again = producer.send(one)
    assert ids == [result.msg_id] * 3
    assert one.properties[Property.UNIQ_KEY] == result.msg_id == again.msg_id


# -- time --------------------------------------------------------------------------------------------------------------------


def silent(queue: MessageQueue, seconds: float) -> Exception:
    gevent.sleep(seconds)
    return RequestTimeout("silent")


def test_the_deadline_holds_for_all_tries_together() -> None:
    brokers = Brokers(a=silent, b=silent)
    with producer_with(brokers, routes=TWO, retries=50) as producer, gevent.Timeout(2), pytest.raises(SendError) as caught:
        producer.send(message(), timeout=0.1)
    assert sum(attempt.seconds for attempt in caught.value.attempts) < 0.5


def test_a_try_leaves_time_for_those_after_it() -> None:
    brokers = Brokers(a=RequestTimeout("x"), b=RequestTimeout("x"))
    with producer_with(brokers, routes=TWO, send_timeout=9.0) as producer, pytest.raises(SendError):
        producer.send(message())
    assert [seconds for _, seconds in brokers.tries] == pytest.approx([3.0, 4.5, 9.0], abs=0.1)


def test_a_try_is_not_cut_to_nothing() -> None:
    brokers = Brokers(a=RequestTimeout("x"), b=RequestTimeout("x"))
    with producer_with(brokers, routes=TWO, send_timeout=1.5, retries=9) as producer, pytest.raises(SendError):
        producer.send(message())
    assert brokers.tries[0][1] == pytest.approx(1.0, abs=0.1)


def test_the_limit_of_one_try() -> None:
    brokers = Brokers(a=RequestTimeout("x"), b=RequestTimeout("x"))
    with producer_with(brokers, routes=TWO, try_timeout=0.25) as producer, pytest.raises(SendError):
        producer.send(message(), timeout=5.0)
    assert [seconds for _, seconds in brokers.tries] == pytest.approx([0.25] * 3, abs=0.1)


# -- stored, but -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [status for status in SendStatus if status is not SendStatus.SEND_OK])
def test_stored_is_stored(status: SendStatus) -> None:
    brokers = Brokers(a=status, b=status)
    with producer_with(brokers, routes=TWO) as producer:
        assert producer.send(message()).status is status
    assert len(brokers.tries) == 1


def test_not_ok_is_tried_at_another_broker_when_asked_for() -> None:
    brokers = Brokers(a=SendStatus.FLUSH_DISK_TIMEOUT)
    with producer_with(brokers, routes=TWO, retry_another_broker_when_not_ok=True) as producer:
        for _ in range(4):
            assert producer.send(message()).status is SendStatus.SEND_OK


@pytest.mark.parametrize(
    "then", [ConnectError("refused"), MessageIllegalError(13, "no", "b:10911"), SendStatus.FLUSH_DISK_TIMEOUT]
)
def test_a_stored_copy_counts_whatever_comes_after_it(then: object) -> None:
    """Given a message stored but not flushed in time, when the next tries fail, then the send still tells of the copy."""

    def first_then(queue: MessageQueue, seconds: float) -> object:
        return SendStatus.FLUSH_DISK_TIMEOUT if len(brokers.tries) == 1 else then

    brokers = Brokers(a=first_then, b=first_then)
    with producer_with(brokers, routes=TWO, retry_another_broker_when_not_ok=True) as producer:
        assert producer.send(message()).status is SendStatus.FLUSH_DISK_TIMEOUT


# -- refusals ----------------------------------------------------------------------------------------------------------------


def test_a_refusal_of_permission_by_all_stays_one() -> None:
    refusal = NoPermissionError(16, "not yours", "a:10911")
    with (
        producer_with(Brokers(a=refusal, b=refusal), routes=TWO) as producer,
        pytest.raises(NoPermissionError, match="not yours"),
    ):
        producer.send(message())


def test_a_refusal_of_permission_among_others_is_one_of_the_tries() -> None:
    refusal = NoPermissionError(16, "not yours", "a:10911")
    with producer_with(Brokers(a=refusal, b=ConnectError("refused")), routes=TWO) as producer, pytest.raises(SendError):
        producer.send(message())


def test_a_topic_without_route() -> None:
    brokers = Brokers()
    with producer_with(brokers, routes={}) as producer, pytest.raises(RouteNotFoundError):
        producer.send(message())
    assert not brokers.tries


def test_name_servers_that_are_away_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given that no name server tells the route, when one does before the time is up, then the message is sent."""
    brokers = Brokers()
    with producer_with(brokers, routes=TWO) as producer:
        publish_info, failures = producer._instance.publish_info, [ConnectError("refused"), RequestTimeout("silent")]

        def fails_at_first(*args: Any) -> Any:
            if failures:
                raise failures.pop()
            return publish_info(*args)

        monkeypatch.setattr(producer._instance, "publish_info", fails_at_first)
        assert producer.send(message()).status is SendStatus.SEND_OK
        producer._instance.routes.publish.clear()
        failures[:] = [ConnectError("refused")] * 100
        with pytest.raises(ConnectError):
            producer.send(message(), timeout=0.1)
    assert len(brokers.stored) == 1


def test_a_broker_that_lost_its_master_is_avoided() -> None:
    brokers = Brokers()
    with producer_with(brokers, routes=TWO) as producer:
        del producer._instance.routes.broker_addrs["a"]
        for _ in range(4):
            assert producer.send(message()).message_queue.broker_name == "b"


# -- the queue the caller wants ----------------------------------------------------------------------------------------------


def test_a_queue_of_the_callers_choice_gets_one_try() -> None:
    brokers = Brokers(a=ConnectError("refused"))
    with producer_with(brokers, routes=TWO) as producer, pytest.raises(SendError):
        producer.send(message(), queue=QUEUE)
    assert [queue for queue, _ in brokers.tries] == [QUEUE]


def test_a_selector_sees_all_queues_the_message_and_the_argument() -> None:
    seen: list[object] = []

    def select(queues: object, msg: Message, arg: object) -> MessageQueue:
        seen.append((tuple(queues), msg, arg))  # type: ignore[call-overload]
        return QUEUE

    brokers, one = Brokers(), message()
    with producer_with(brokers, routes=TWO) as producer:
        assert producer.send(one, selector=select, arg="k").message_queue == QUEUE
        assert seen == [(producer._instance.routes.publish["T"].queues, one, "k")]


def test_one_key_one_queue() -> None:
    brokers = Brokers()
    with producer_with(brokers, routes=TWO) as producer:
        one = message()
        queues = {producer.send_orderly(message(), "order-7").message_queue for _ in range(5)}
        producer.send_orderly(one, "order-7")
    assert len(queues) == 1
    assert one.sharding_key == "order-7"


def test_queue_and_selector_exclude_each_other() -> None:
    with producer_with(Brokers(), routes=TWO) as producer, pytest.raises(ConfigError, match="not both"):
        producer.send(message(), queue=QUEUE, selector=lambda *_: QUEUE)


@pytest.mark.parametrize(
    ("choice", "why"),
    [
        ({"queue": 1}, "queue is 1"),
        ({"selector": lambda *_: 1}, "the selector returned 1"),
        ({"selector": lambda *_: None}, "the selector returned None"),
    ],
)
def test_what_is_no_queue(choice: dict[str, Any], why: str) -> None:
    brokers = Brokers()
    with (
        producer_with(brokers, routes=TWO) as producer,
        pytest.raises(MessageError, match=f"{why}, not one of the queues of topic T"),
    ):
        producer.send(message(), **choice)
    assert not brokers.tries


def test_a_callback_that_cannot_be_called() -> None:
    brokers = Brokers()
    with producer_with(brokers, routes=TWO) as producer, pytest.raises(ConfigError, match="cannot be called back"):
        producer.send_async(message(), "stored")  # type: ignore[arg-type]
    assert not brokers.tries


def test_a_queue_of_another_topic() -> None:
    brokers = Brokers()
    with producer_with(brokers, routes=TWO) as producer, pytest.raises(MessageError, match="topic U"):
        producer.send(message(), queue=MessageQueue("U", "a", 0))
    assert not brokers.tries


# -- async -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "tries"),
    [(ConnectError("x"), 3), (RequestTimeout("x"), 3), (BrokerSystemError(1, "", ""), 1), (FlowControlError(215, "", ""), 1)],
)
def test_async_repeats_only_what_got_no_answer(error: GRocketMQError, tries: int) -> None:
    brokers, told = Brokers(a=error, b=error), []
    with producer_with(brokers, routes=TWO) as producer:
        result = producer.send_async(message(), on_error=told.append)
        with pytest.raises(SendError if tries > 1 else type(error)):
            result.get(timeout=5)
    assert len(brokers.tries) == tries
    assert [type(one) for one in told] == [SendError if tries > 1 else type(error)]


def test_async_tells_of_success() -> None:
    told: list[object] = []
    with producer_with(Brokers(), routes=TWO) as producer:
        found = producer.send_async(message(), told.append).get(timeout=5)
    assert told == [found]


def test_a_callback_that_fails_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with producer_with(Brokers(), routes=TWO) as producer:
        result = producer.send_async(message(), lambda _: 1 / 0)
        assert result.get(timeout=5).status is SendStatus.SEND_OK
    assert "callback" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_async_refuses_a_bad_message_at_once() -> None:
    with producer_with(Brokers(), routes=TWO) as producer:
        with pytest.raises(MessageError):
            producer.send_async(Message("T", b""))
        assert producer._window._messages == 0


def test_shutdown_waits_for_what_is_under_way() -> None:
    def slow(queue: MessageQueue, seconds: float) -> None:
        gevent.sleep(0.05)

    brokers = Brokers(a=slow)
    with producer_with(brokers, routes=ONE) as producer:
        results = [producer.send_async(message()) for _ in range(5)]
        sync = gevent.spawn(producer.send, message())
        gevent.sleep(0)
    assert len(brokers.stored) == 6
    assert all(result.get(block=False).status is SendStatus.SEND_OK for result in [*results, sync])
    with pytest.raises(ClientStateError):
        producer.send(message())


@pytest.mark.parametrize("begun", [False, True])
def test_what_shutdown_cuts_off_is_told(begun: bool) -> None:
    """Whether the send had begun or not, whoever waits for its result gets an error, not nothing."""
    with producer_with(Brokers(a=lambda *_: gevent.sleep(30)), routes=ONE) as producer:
        result = producer.send_async(message())
        if begun:
            gevent.sleep(0.01)
        producer.shutdown(timeout=0.0)
    with pytest.raises(ClientStateError, match="shut down"):
        result.get(timeout=1)
    assert producer._window._messages == 0


# -- the rest ----------------------------------------------------------------------------------------------------------------


def test_a_batch_is_one_send() -> None:
    brokers = Brokers()
    messages = [message() for _ in range(3)]
    with producer_with(brokers, routes=TWO) as producer:
        result = producer.send_batch(messages)
    assert len(brokers.stored) == 1
    assert result.msg_id.split(",") == [one.properties[Property.UNIQ_KEY] for one in messages]


def test_create_topic_asks_every_master_and_tells_the_first_failure() -> None:
    def create(address: str, *_: object) -> Exception | None:
        return BrokerSystemError(1, "no", address) if address.startswith("a") else None

    brokers = Brokers()
    brokers.api.routes["TBW102"] = route("a", "b")
    brokers.api.answers["create_topic"] = create
    with producer_with(brokers, routes={}) as producer:
        with pytest.raises(BrokerError, match="a:10911"):
            producer.create_topic("new", 6)
        with pytest.raises(ConfigError):
            producer.create_topic("SCHEDULE_TOPIC_XXXX")
    assert brokers.api.named("create_topic") == [(f"{name}:10911", "new", 6, "TBW102", 6, 0) for name in ("a", "b")]


def test_topics_sent_to_are_kept_fresh() -> None:
    with producer_with(Brokers(), routes=TWO) as producer:
        assert set(producer.topics()) == set()
        producer.send(message())
        assert set(producer.topics()) == {"T"}


def test_topics_no_longer_sent_to_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given two topics, when only one is still sent to, then the other is forgotten after an hour or two."""
    now = time.monotonic()
    with producer_with(Brokers(), routes={**TWO, "U": route("a")}) as producer:
        producer.send(message())
        producer.send(Message("U", b"x"))
        for hours, topics in ((0.9, {"T", "U"}), (1.1, {"T", "U"}), (2.2, {"T"}), (3.3, {"T"})):
            monkeypatch.setattr("grocketmq.producer.broker_calls.monotonic", lambda hours=hours: now + 3600 * hours)
            assert set(producer.topics()) == topics
            producer.send(message())
        producer.send(Message("U", b"x"))
        assert set(producer.topics()) == {"T", "U"}


def test_oneway_goes_out_without_an_answer() -> None:
    brokers = Brokers()
    with producer_with(brokers, routes=TWO) as producer:
        for _ in range(4):
            producer.send_oneway(message())
    assert len(brokers.api.named("send_oneway")) == 4
    assert not brokers.tries


def test_a_queue_that_has_moved_is_found_before_the_next_try() -> None:
    """Given a static topic whose queues all moved, when the old broker says so, then the next try goes to the new one."""
    brokers = Brokers(a=NotLeaderError(501, "moved", "a:10911"))
    with producer_with(brokers, routes={"T": route("a")}) as producer:
        instance = producer._instance
        instance.refresh_route = lambda topic, timeout: instance.routes.update(topic, route("b"))  # type: ignore[method-assign]
        producer.send(message())
    assert brokers.asked == ["a", "b"]
