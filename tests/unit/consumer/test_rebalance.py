"""Taking a share of the queues, and giving back the rest."""

from __future__ import annotations

import logging

import gevent
import pytest
from gevent.event import Event

from grocketmq.consumer.process_queue import PULL_IDLE_LIMIT
from grocketmq.errors import BrokerSystemError, ConnectError
from grocketmq.model.route import MessageQueue
from tests.unit.client.fakes import route
from tests.unit.consumer.fakes import Balance

A0, A1, B0, B1 = (MessageQueue("T", name, number) for name in "ab" for number in (0, 1))


def test_a_lonely_member_takes_all_at_once() -> None:
    balance = Balance("me", stored={A1: 7})
    assert balance.rebalance.run()
    assert balance.queues == ["a0", "a1", "b0", "b1"]
    assert balance.pulled == [(A0, 0, 0.0), (A1, 7, 0.0), (B0, 0, 0.0), (B1, 0, 0.0)]


def test_a_share_is_pulled_after_others_had_time_to_let_go() -> None:
    balance = Balance("me", "you")
    assert balance.rebalance.run()
    assert balance.queues == ["a0", "a1"]
    assert all(pause > 0 for _, _, pause in balance.pulled)


def test_nothing_changes_nothing() -> None:
    balance = Balance("me")
    balance.rebalance.run()
    events, calls = list(balance.instance.events), list(balance.store.calls)
    assert balance.rebalance.run()
    assert (balance.instance.events, balance.store.calls, len(balance.pulled)) == (events, calls, 4)


def test_a_change_is_told_to_the_brokers_with_a_new_version(monkeypatch: pytest.MonkeyPatch) -> None:
    balance = Balance("me")
    before = balance.subscriptions.get("T")
    monkeypatch.setattr("grocketmq.consumer.subscriptions.time_ns", lambda: 1 << 62)
    balance.rebalance.run()
    assert balance.instance.events == ["heartbeat_now"]
    assert balance.subscriptions.get("T").sub_version > before.sub_version  # type: ignore[union-attr]


def test_a_member_that_joins_gets_queues_whose_offsets_are_stored_first() -> None:
    """Given all queues, when another member joins, then its share is dropped, stored and forgotten, in this order."""
    balance = Balance("me")
    balance.rebalance.run()
    gone = [balance.rebalance.process_queues[queue] for queue in (B0, B1)]
    balance.store.calls.clear()
    balance.members("me", "you")
    assert balance.rebalance.run()
    assert balance.queues == ["a0", "a1"]
    assert all(held.dropped for held in gone)
    assert not any(held.dropped for held in balance.rebalance.process_queues.values())
    assert balance.store.calls == [("persist", B0), ("remove", B0), ("persist", B1), ("remove", B1)]
    assert balance.consuming.events == [("release", B0), ("release", B1)]


def test_a_queue_still_worked_on_in_order_stays_for_another_round() -> None:
    balance = Balance("me")
    balance.rebalance.run()
    balance.consuming.busy = {B1}
    balance.members("me", "you")
    assert not balance.rebalance.run()
    assert balance.queues == ["a0", "a1", "b1"]
    balance.consuming.busy.clear()
    assert balance.rebalance.run()
    assert balance.queues == ["a0", "a1"]


def test_a_queue_somebody_else_has_locked_waits() -> None:
    balance = Balance("me")
    balance.consuming.refused = {A0}
    assert not balance.rebalance.run()
    assert balance.queues == ["a1", "b0", "b1"]
    balance.consuming.refused.clear()
    assert balance.rebalance.run()


# -- whom to believe ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ConnectError("refused"), BrokerSystemError(1, "no consumer for this group", "a")])
def test_members_unknown_change_nothing(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Given queues, when no broker tells the members, then they stay, and that is logged once."""
    balance = Balance("me")
    balance.rebalance.run()
    balance.api.answers["consumer_ids"] = error
    with caplog.at_level(logging.WARNING):
        assert not balance.rebalance.run()
        assert not balance.rebalance.run()
    assert balance.queues == ["a0", "a1", "b0", "b1"]
    assert len(caplog.records) == 1
    assert "heartbeat_soon" in balance.instance.events


def test_the_next_broker_is_asked_when_one_does_not_tell() -> None:
    balance = Balance("me")
    balance.api.answers["consumer_ids"] = lambda address, group: ConnectError("x") if address.startswith("a") else ["me"]
    assert balance.rebalance.run()
    assert balance.queues == ["a0", "a1", "b0", "b1"]


def test_a_broker_that_has_forgotten_this_client_is_told_of_it_first() -> None:
    """Given queues, when a restarted broker does not list this client, then a heartbeat goes out before any is given up."""
    balance = Balance("me")
    balance.rebalance.run()
    answers = iter([["you"], ["me", "you"]])
    balance.api.answers["consumer_ids"] = lambda *_: next(answers)
    balance.instance.events.clear()
    balance.rebalance.run()
    assert balance.instance.events[0] == "heartbeat_now"
    assert balance.queues == ["a0", "a1"]


def test_a_client_that_brokers_do_not_count_gives_up() -> None:
    balance = Balance("me")
    balance.rebalance.run()
    balance.members("you")
    balance.rebalance.run()
    assert balance.queues == []


def test_a_topic_without_route_waits() -> None:
    balance = Balance("me")
    balance.subscriptions.add("unknown", "*")
    assert balance.rebalance.run()
    assert balance.queues == ["a0", "a1", "b0", "b1"]


def test_a_topic_no_longer_subscribed_to_is_given_back() -> None:
    balance = Balance("me")
    balance.rebalance.run()
    balance.subscriptions.remove("T")
    balance.rebalance.run()
    assert balance.queues == []
    assert ("persist", A0) in balance.store.calls


def test_queues_that_vanish_are_given_back() -> None:
    balance = Balance("me")
    balance.rebalance.run()
    balance.instance.routes.update("T", route("a"))
    assert balance.rebalance.run()
    assert balance.queues == ["a0", "a1"]


def test_a_strategy_that_fails_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        name = "BROKEN"

        def allocate(self, *args: object) -> list[MessageQueue]:
            raise ZeroDivisionError

    balance = Balance("me")
    balance.rebalance.run()
    balance.rebalance._strategy = Broken()  # type: ignore[assignment]
    assert not balance.rebalance.run()
    assert balance.queues == ["a0", "a1", "b0", "b1"]
    assert "BROKEN" in caplog.text


# -- where to begin, and beginning anew --------------------------------------------------------------------------------------


def test_a_round_that_the_shutdown_breaks_off_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    balance = Balance("me")

    def start(queue: MessageQueue) -> int:
        balance.rebalance.stop()
        raise ConnectError("closed by this client")

    balance.start = start
    balance.rebalance.run()
    assert balance.queues == []
    assert not caplog.messages


def test_a_queue_whose_start_is_unknown_waits_for_the_next_round() -> None:
    balance = Balance("me")

    def start(queue: MessageQueue) -> int:
        if queue == A1:
            raise ConnectError("refused")
        return 3

    balance.start = start
    assert not balance.rebalance.run()
    assert balance.queues == ["a0", "b0", "b1"]
    balance.start = lambda queue: 4
    assert balance.rebalance.run()
    assert balance.pulled[-1][:2] == (A1, 4)


def test_a_queue_that_is_not_pulled_any_more_is_built_anew() -> None:
    balance = Balance("me")
    balance.rebalance.run()
    stuck = balance.rebalance.process_queues[A1]
    stuck.last_pull -= PULL_IDLE_LIMIT + 1
    balance.pulled.clear()
    balance.start = lambda queue: 9
    assert balance.rebalance.run()
    assert stuck.dropped
    assert not balance.rebalance.process_queues[A1].dropped
    assert [(queue, offset) for queue, offset, _ in balance.pulled] == [(A1, 9)]


def test_a_moved_queue_is_stored_and_taken_anew() -> None:
    balance = Balance("me")
    balance.rebalance.run()
    balance.rebalance.move(MessageQueue("T", "unknown", 0), 7)
    balance.store.calls.clear()
    balance.rebalance.move(B0, 7)
    assert balance.store.calls == [("freeze", B0, 7), ("persist", B0), ("remove", B0)]
    assert balance.queues == ["a0", "a1", "b1"]
    assert balance.rebalance.run()
    assert balance.queues == ["a0", "a1", "b0", "b1"]


def test_a_moved_queue_stays_dropped_until_its_offset_is_stored() -> None:
    """Given a broker that does not store where a queue was moved to, when rounds come, then none takes the queue anew where it
    was; once the broker stores, it goes on at the new offset."""
    balance = Balance("me")
    balance.rebalance.run()
    balance.pulled.clear()
    balance.store.fails = ConnectError("refused")
    balance.rebalance.move(B0, 7)
    assert not balance.rebalance.run()
    assert balance.rebalance.process_queues[B0].dropped
    assert (balance.store.in_memory(B0), balance.pulled) == (7, [])
    balance.store.fails = None
    balance.start = lambda queue: 7
    assert balance.rebalance.run()
    assert balance.pulled == [(B0, 7, 0.0)]


def test_a_moved_queue_that_became_anothers_is_let_go_of_all_the_same() -> None:
    balance = Balance("me")
    balance.rebalance.run()
    balance.store.fails = ConnectError("refused")
    balance.rebalance.move(B0, 7)
    balance.members("me", "you")
    balance.rebalance.run()
    assert balance.queues == ["a0", "a1"]


def test_a_queue_moved_while_its_old_offset_is_stored_keeps_the_new_one() -> None:
    balance = Balance("me")
    balance.rebalance.run()

    def persist_one(queue: MessageQueue) -> bool:
        del balance.store.persist_one  # type: ignore[attr-defined]
        late.append(gevent.spawn(balance.rebalance.move, queue, 9))
        gevent.sleep(0)
        return True

    late: list[gevent.Greenlet] = []
    balance.store.persist_one = persist_one  # type: ignore[method-assign]
    balance.rebalance.move(B0, 7)
    late[0].get(timeout=2)
    assert ("freeze", B0, 9) in balance.store.calls
    assert balance.store.calls[-2:] == [("persist", B0), ("remove", B0)]


def test_a_queue_still_worked_on_counts_the_tries_to_let_go_of_it() -> None:
    balance = Balance("me")
    balance.rebalance.run()
    balance.consuming.busy = {B0, B1}
    balance.members("me", "you")
    assert not balance.rebalance.run()
    assert not balance.rebalance.run()
    assert balance.rebalance.process_queues[B0].unlock_tries == 2


def test_after_the_stop_nothing_is_taken_or_stored() -> None:
    """Given a round that waits for a broker, when the consumer stops meanwhile, then the round takes nothing more."""
    balance, reached, go = Balance("me"), Event(), Event()

    def start(queue: MessageQueue) -> int:
        if queue == A1:
            reached.set()
            go.wait()
        return 0

    balance.start = start
    round_ = gevent.spawn(balance.rebalance.run)
    reached.wait(2)
    balance.store.calls.clear()
    balance.rebalance.stop()
    go.set()
    round_.get(timeout=2)
    assert balance.queues == ["a0"]
    assert all(held.dropped for held in balance.rebalance.process_queues.values())
    assert not any(call[0] == "persist" for call in balance.store.calls)


def test_rounds_do_not_overlap() -> None:
    balance, at_work = Balance("me"), []

    def start(queue: MessageQueue) -> int:
        at_work.append(queue)
        gevent.sleep(0.005)
        return 0

    balance.start = start
    gevent.joinall([gevent.spawn(balance.rebalance.run) for _ in range(3)], raise_error=True)
    assert at_work == [A0, A1, B0, B1]
