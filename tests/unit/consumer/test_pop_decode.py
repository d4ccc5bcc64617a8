"""What a pop found: each message gets its check point and its own topic."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grocketmq.consumer.pop_decode import check_point_of, decode_popped
from grocketmq.errors import RemoteProtocolError
from grocketmq.model.message import MessageExt
from grocketmq.wire.headers import PopMessageResponseHeader
from grocketmq.wire.message_codec import encode_message

POP_TIME = 1_700_000_000_000
V1, V2 = "%RETRY%g_T", "%RETRY%g+T"


def header(starts: str | None, offsets: str | None, **options: Any) -> PopMessageResponseHeader:
    return PopMessageResponseHeader(
        pop_time=POP_TIME,
        invisible_time=60_000,
        revive_qid=3,
        rest_num=0,
        start_offset_info=starts,
        msg_offset_info=offsets,
        **options,
    )


def stored(offset: int, *, topic: str = "T", queue_id: int = 0, properties: str = "", **options: int) -> bytes:
    return encode_message(topic, b"x", properties, queue_id=queue_id, queue_offset=offset, **options)


def popped(answer: PopMessageResponseHeader, *frames: bytes) -> list[MessageExt]:
    return decode_popped("T", "a", answer, b"".join(frames))


def check_points(answer: PopMessageResponseHeader, *frames: bytes) -> list[str]:
    return [message.properties["POP_CK"] for message in popped(answer, *frames)]


def test_messages_of_two_queues() -> None:
    answer = header("0 0 5;0 1 9", "0 0 5,7;0 1 9")
    found = check_points(answer, stored(5), stored(9, queue_id=1), stored(7))
    assert found == [
        f"5 {POP_TIME} 60000 3 0 a 0 5",
        f"9 {POP_TIME} 60000 3 0 a 1 9",
        f"5 {POP_TIME} 60000 3 0 a 0 7",
    ]


@pytest.mark.parametrize(("topic", "flag"), [("T", "0"), (V1, "1"), (V2, "2")])
def test_a_retried_message_has_its_first_topic_again(topic: str, flag: str) -> None:
    (message,) = popped(header(f"{flag} 0 4", f"{flag} 0 4"), stored(4, topic=topic))
    assert message.topic == "T"
    assert check_point_of(message).retry == flag


def test_a_topic_and_its_retry_topic_in_one_answer() -> None:
    """Both have a queue 0: the flag keeps them apart."""
    found = check_points(header("0 0 1;1 0 1", "0 0 1;1 0 1"), stored(1, topic=V1), stored(1))
    assert [text.split()[4] for text in found] == ["1", "0"]


def test_a_check_point_by_the_broker_counts() -> None:
    """Brokers give a retried message its first topic back, and write the check point themselves."""
    given_point = f"4 {POP_TIME} 60000 3 1 a 0 4"
    frames = (stored(4, properties=f"POP_CK\x01{given_point}\x02"), stored(8))
    assert check_points(header("1 0 4;0 0 8", "1 0 4;0 0 8"), *frames) == [given_point, f"8 {POP_TIME} 60000 3 0 a 0 8"]


@pytest.mark.parametrize("left_over", [f"4 {POP_TIME - 1} 60000 3 1 a 0 4", f"4 {POP_TIME} 60000 3 1 a 0", "nonsense"])
def test_a_check_point_that_a_sender_copied_does_not_count(left_over: str) -> None:
    """Given a message that was popped, then sent anew with all its properties, then its old check point is replaced."""
    found = check_points(header("0 0 8", "0 0 8"), stored(8, properties=f"POP_CK\x01{left_over}\x02"))
    assert found == [f"8 {POP_TIME} 60000 3 0 a 0 8"]


@pytest.mark.parametrize("nothing", [None, ""])
def test_without_tables_the_first_message_of_a_queue_begins_its_check_point(nothing: str | None) -> None:
    found = check_points(header(nothing, nothing), stored(5), stored(7), stored(2, queue_id=1))
    assert [(text.split()[0], text.split()[-1]) for text in found] == [("5", "5"), ("5", "7"), ("2", "2")]


def test_the_tables_offset_counts() -> None:
    """It differs from the stored one where a queue was moved."""
    assert check_points(header("0 0 100", "0 0 105"), stored(5)) == [f"100 {POP_TIME} 60000 3 0 a 0 105"]


def test_the_first_pop_time_stays() -> None:
    first, again = popped(header("0 0 1", "0 0 1,2"), stored(1), stored(2, properties="1ST_POP_TIME\x017\x02"))
    assert (first.properties["1ST_POP_TIME"], again.properties["1ST_POP_TIME"]) == (str(POP_TIME), "7")


def test_tries_in_orderly_consumption_are_counted_by_message_or_queue() -> None:
    answer = header("0 0 1;0 1 1", "0 0 1,2;0 1 1", order_count_info="0 0 3;0 qo0%2 5")
    found = popped(answer, stored(1), stored(2), stored(1, queue_id=1, reconsume_times=1))
    assert [message.reconsume_times for message in found] == [3, 5, 1]


@pytest.mark.parametrize(
    ("starts", "offsets", "field"),
    [
        ("0 0", "0 0 1", "startOffsetInfo"),
        ("0 0 x", "0 0 1", "startOffsetInfo"),
        ("0 0 1;0 0 1", "0 0 1", "startOffsetInfo"),
        ("0 0 1", "0 0 ,", "msgOffsetInfo"),
        ("0 0 1", "0 0 99999999999999999999", "msgOffsetInfo"),
        ("0 0 1", None, "msgOffsetInfo"),
        ("0 1 1", "0 1 1", "queue 0@0"),
        ("1 0 1", "1 0 1", "queue 0@0"),
        ("0 0 1", "0 1 1", "queue 0@0"),
    ],
)
def test_broken_tables(starts: str, offsets: str | None, field: str) -> None:
    with pytest.raises(RemoteProtocolError, match=field):
        popped(header(starts, offsets), stored(1))


def test_more_messages_than_the_tables_name() -> None:
    with pytest.raises(RemoteProtocolError, match="message 1 of queue 0@0"):
        popped(header("0 0 1", "0 0 1"), stored(1), stored(2))


def test_a_broken_message() -> None:
    with pytest.raises(RemoteProtocolError):
        popped(header("0 0 1", "0 0 1"), stored(1)[:-1])


@given(st.text("012 ,;qo%-+", max_size=30), st.text("012 ,;qo%-+", max_size=30), st.text("012 ,;qo%-+", max_size=30))
def test_any_tables(starts: str, offsets: str, counts: str) -> None:
    """Whatever a broker writes there, it is read or refused."""
    try:
        found = popped(header(starts, offsets, order_count_info=counts), stored(1), stored(2, topic=V1))
    except RemoteProtocolError:
        return
    assert all(check_point_of(message).queue_offset is not None for message in found)


@pytest.mark.parametrize("text", ["", "1 2 3", f"4 {POP_TIME} 60000 3 1 a 0"])
def test_no_check_point(text: str) -> None:
    message = MessageExt("T", b"", properties={"POP_CK": text} if text else {})
    with pytest.raises(RemoteProtocolError, match="POP_CK"):
        check_point_of(message)
