"""What the ledger of a load test says, and that it agrees with one who has seen everything."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grocketmq.contrib.load import ledger as module
from grocketmq.contrib.load.ledger import Account, Ledger, Recorder
from grocketmq.contrib.load.outages import Outages

QUEUES = ("q1", "q2")


def sent(recorder: Recorder, count: int, *, stored: bool = True) -> list[str]:
    """Stamps of messages sent one after the other."""
    stamps = []
    for _ in range(count):
        number, stamp = recorder.begin(10)
        recorder.end(number, stored=stored)
        stamps.append(stamp)
    return stamps


def account(*recorders: Recorder) -> Account:
    ledger = Ledger()
    for recorder in recorders:
        ledger.merge(recorder.take())
    return ledger.account()


def test_all_came() -> None:
    recorder = Recorder("run", "a")
    for stamp in sent(recorder, 100):
        assert recorder.arrive(stamp, "q1", 10)
    found = account(recorder)
    assert found == Account(sent=100, sent_bytes=1000, arrived=100, arrived_bytes=1000)
    assert found.lost == 0


def test_losses_at_either_end_and_between() -> None:
    recorder = Recorder("run", "a")
    stamps = sent(recorder, 10)
    for stamp in stamps[2:5] + stamps[6:9]:
        recorder.arrive(stamp, "q1", 10)
    assert account(recorder).lost == 4


def test_duplicates_and_what_was_given_back() -> None:
    recorder = Recorder("run", "a")
    [stamp] = sent(recorder, 1)
    for again in (False, False, True, False):
        recorder.arrive(stamp, "q1", 10, again=again)
    found = account(recorder)
    assert (found.arrived, found.duplicates, found.redelivered, found.arrived_bytes) == (1, 2, 1, 40)


def test_one_that_only_comes_again_is_not_lost() -> None:
    recorder = Recorder("run", "a")
    [stamp] = sent(recorder, 1)
    recorder.arrive(stamp, "q1", 10, again=True)
    found = account(recorder)
    assert (found.lost, found.redelivered) == (0, 0)


def test_that_it_came_again_may_be_heard_before_that_it_came() -> None:
    one, other = Recorder("run", "a", others=True), Recorder("run", "b", others=True)
    [stamp] = sent(one, 1)
    one.arrive(stamp, "q1", 10)
    other.arrive(stamp, "retry", 10, again=True)
    found = account(other, one)
    assert (found.arrived, found.duplicates, found.redelivered) == (1, 0, 1)


def test_order_is_that_of_a_queue() -> None:
    recorder = Recorder("run", "a")
    one, two, three = sent(recorder, 3)
    recorder.arrive(two, "q1", 10)
    recorder.arrive(one, "q2", 10)
    assert account(recorder).out_of_order == 0
    recorder.arrive(three, "q2", 10)
    recorder.arrive(one, "q1", 10)
    assert account(recorder).out_of_order == 1


def test_sends_that_overlap_have_no_order() -> None:
    recorder = Recorder("run", "a")
    begun = [recorder.begin(10) for _ in range(3)]
    for number, _ in begun:
        recorder.end(number, stored=True)
    [later] = sent(recorder, 1)
    for stamp in (begun[2][1], begun[0][1], later, begun[1][1]):
        recorder.arrive(stamp, "q1", 10)
    assert account(recorder).out_of_order == 1, "the last one, which comes after one that was sent later"


def test_a_delayed_one_has_no_place_in_the_order() -> None:
    recorder = Recorder("run", "a")
    number, delayed = recorder.begin(10, ordered=False)
    recorder.end(number, stored=True)
    for stamp in [*sent(recorder, 2), delayed]:
        recorder.arrive(stamp, "q1", 10)
    assert account(recorder).out_of_order == 0


@pytest.mark.parametrize("told_first", [True, False])
def test_one_whose_send_failed_may_come_late_or_not(told_first: bool) -> None:
    sender, consumer = Recorder("run", "a"), Recorder("run", "b", others=True)
    one, _ = sent(sender, 2, stored=False)
    for stamp in [*sent(sender, 2), one]:
        consumer.arrive(stamp, "q1", 10)
    found = account(*([sender, consumer] if told_first else [consumer, sender]))
    assert found == Account(sent=2, failed=2, sent_bytes=40, arrived=2, arrived_bytes=30, unsure=1)


@pytest.mark.parametrize(
    "stamp", ["", "run", "run:a", "run:a:", "run:a:x:0", "run:a:-1:0", "earlier:a:0:0", "run:b:0:0", ":::", "run:a:²:0"]
)
def test_what_is_not_of_this_stream(stamp: str) -> None:
    recorder = Recorder("run", "a")
    assert not recorder.arrive(stamp, "q1", 10)
    assert account(recorder) == Account()


def test_what_is_under_way_is_neither_sent_nor_lost() -> None:
    recorder = Recorder("run", "a")
    recorder.begin(10)
    found = account(recorder)
    assert (found.sent, found.lost) == (0, 0)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OPEN", 10)
    recorder = Recorder("run", "a")
    stamps = sent(recorder, 100)
    ledger = Ledger()
    for stamp in (stamps[99], stamps[40], stamps[40], stamps[98], stamps[98]):
        recorder.arrive(stamp, "q1", 10)
    sent(recorder, 50, stored=False)
    ledger.merge(recorder.take())
    [stream] = ledger._streams.values()
    assert (len(stream._missing), len(stream._failed)) == (8, 10)
    found = ledger.account()
    assert (found.sent, found.failed, found.lost) == (100, 50, 96), "one of those forgotten that comes twice counts for another"
    for stamp in stamps:
        recorder.arrive(stamp, "q1", 10)
    ledger.merge(recorder.take())
    assert ledger.account().lost == 0


class Oracle:
    """Has seen everything."""

    def __init__(self) -> None:
        self.stored: dict[str, bool] = {}
        self.spans: dict[str, tuple[int, int]] = {}
        self.came: list[tuple[str, str]] = []

    def account(self) -> Account:
        times = Counter(stamp for stamp, _ in self.came)
        failed = [stamp for stamp, stored in self.stored.items() if not stored]
        return Account(
            sent=sum(self.stored.values()),
            failed=len(failed),
            sent_bytes=10 * len(self.stored),
            arrived=sum(self.stored[stamp] for stamp in times),
            arrived_bytes=10 * len(self.came),
            unsure=sum(stamp in times for stamp in failed),
            duplicates=sum(count - 1 for count in times.values()),
            out_of_order=sum(self.late(stamp) for stamp in times if self.stored[stamp]),
        )

    def late(self, stamp: str) -> bool:
        """Whether it came first after one, in its queue, that was sent when its own send, and all before that, had ended."""
        first = next(index for index, (one, _) in enumerate(self.came) if one == stamp)
        queue, (_, stream, number, _) = self.came[first][1], stamp.split(":")
        ended = max(
            end
            for other, (_, end) in self.spans.items()
            if other.split(":")[1] == stream and int(other.split(":")[2]) <= int(number)
        )
        return any(
            where == queue and other.split(":")[1] == stream and self.spans[other][0] > ended
            for other, where in self.came[:first]
        )


@given(st.data())
def test_it_agrees_with_one_who_has_seen_everything(data: st.DataObject) -> None:
    """Two processes send, one of them consumes; whatever is lost, doubled, late, failed, and whenever they report."""
    recorders = [Recorder("run", "a", others=True), Recorder("run", "b", others=True)]
    consumer, ledger, oracle = recorders[0], Ledger(), Oracle()
    under_way: list[tuple[Recorder, int, str]] = []
    stamps: list[str] = []
    for time in range(data.draw(st.integers(1, 60), label="steps")):
        step = data.draw(st.sampled_from(["begin", "begin", "end", "arrive", "arrive", "report"]))
        if step == "begin":
            recorder = data.draw(st.sampled_from(recorders))
            number, stamp = recorder.begin(10)
            under_way.append((recorder, number, stamp))
            stamps.append(stamp)
            oracle.spans[stamp] = (time, 10**9)
        elif step == "end" and under_way:
            recorder, number, stamp = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
            oracle.stored[stamp] = data.draw(st.booleans())
            oracle.spans[stamp] = (oracle.spans[stamp][0], time)
            recorder.end(number, stored=oracle.stored[stamp])
        elif step == "arrive" and stamps:
            stamp, queue = data.draw(st.sampled_from(stamps)), data.draw(st.sampled_from(QUEUES))
            oracle.came.append((stamp, queue))
            assert consumer.arrive(stamp, queue, 10)
        elif step == "report":
            ledger.merge(data.draw(st.sampled_from(recorders)).take())
    for recorder, number, stamp in under_way:
        oracle.stored[stamp] = True
        recorder.end(number, stored=True)
    for recorder in data.draw(st.permutations(recorders)):
        ledger.merge(recorder.take())
    assert ledger.account() == oracle.account()


@given(st.lists(st.integers(0, 60)))
def test_reports_are_packed_without_loss(numbers: list[int]) -> None:
    assert list(module._unpacked(module._packed(numbers))) == sorted(numbers)
    assert module._packed(list(range(1000))) == [0, 1000]


def test_an_outage_is_from_the_first_failure_to_the_next_success() -> None:
    outages = Outages()
    assert outages.worked("a", 1.0) is None
    outages.failed("a", 2.0)
    outages.failed("a", 3.0)
    outages.failed("b", 3.0)
    assert outages.lasting == ["a", "b"]
    assert outages.worked("a", 7.0) == 5.0
    assert outages.worked("a", 8.0) is None
    assert outages.lasting == ["b"]


def test_what_worked_while_a_slow_try_failed_was_no_outage() -> None:
    outages = Outages()
    outages.worked("a", 4.0)
    outages.failed("a", 1.0)
    assert outages.worked("a", 4.5) == 0.5


def test_a_try_made_in_an_outage_that_fails_after_its_end_is_no_other_outage() -> None:
    outages = Outages()
    outages.failed("a", 1.0)
    assert outages.worked("a", 4.0) == 3.0
    outages.failed("a", 3.9)
    assert outages.lasting == []
    assert outages.worked("a", 4.1) is None
    outages.failed("a", 4.2)
    assert outages.worked("a", 5.2) == 1.0
