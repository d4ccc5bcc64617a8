"""Ids never come twice, whatever the clock does."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grocketmq.errors import RemoteProtocolError
from grocketmq.model.message_id import (
    UniqueId,
    UniqueIdGenerator,
    decode_offset_msg_id,
    decode_unique_id,
    encode_offset_msg_id,
    unique_id_time,
)

UTC = timezone.utc
START = datetime(2024, 9, 1, tzinfo=UTC)


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def generator(ip: bytes = b"\x7f\x00\x00\x01") -> UniqueIdGenerator:
    return UniqueIdGenerator(ip, 0x1A2B3, 0x18B4AAC2, UTC)


@pytest.mark.parametrize(("ip", "size"), [(b"\x7f\x00\x00\x01", 32), (bytes(range(16)), 56)])
def test_what_an_id_says(ip: bytes, size: int) -> None:
    make = generator(ip).make
    first, second = make(ms(START) + 1234), make(ms(START) + 1235)
    assert len(first) == size
    assert first == first.upper()
    assert decode_unique_id(first) == UniqueId(ip, 0xA2B3, 0x18B4AAC2, 1234, 0)
    assert decode_unique_id(second)[3:] == (1235, 1)


def test_more_than_a_turn_of_the_counter_in_one_millisecond() -> None:
    make = generator().make
    assert len({make(ms(START)) for _ in range(200_000)}) == 200_000


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_a_clock_that_jumps(clock: list[int]) -> None:
    made = generator()
    ids = []
    for moment in clock:  # full turns, so that the counter stands where it stood
        ids += [made.make(ms(START) + moment) for _ in range(3)]
        made._counter = 0xFFFE
    assert len(set(ids)) == len(ids)


def test_the_same_moment_of_two_months() -> None:
    make = generator().make
    ids = [make(ms(START.replace(month=month)) + 5) for month in (9, 10, 11) for _ in range(65536)]
    assert len(set(ids)) == len(ids)
    assert decode_unique_id(ids[-1]).millis_in_month == 5
    assert make(ms(START)) not in ids, "the clock went back over the months"


def test_a_month_ends() -> None:
    make = generator().make
    last = ms(datetime(2024, 12, 31, 23, 59, 59, 999000, tzinfo=UTC))
    assert decode_unique_id(make(last)).millis_in_month == 31 * 86400_000 - 1
    assert decode_unique_id(make(last + 1)).millis_in_month == 0


@given(st.datetimes(datetime(2001, 1, 1), datetime(2100, 1, 1)), st.integers(1, 27 * 86400_000))
def test_when_an_id_was_made(moment: datetime, age: int) -> None:
    made_at = ms(moment.replace(tzinfo=UTC))
    identity = decode_unique_id(generator().make(made_at))
    assert unique_id_time(identity, made_at + age, UTC) == made_at


def test_time_zone_decides_the_month() -> None:
    zone = timezone(timedelta(hours=8))
    made = UniqueIdGenerator(b"\x00" * 4, 1, 1, zone).make(ms(START) - 3600_000)
    assert decode_unique_id(made).millis_in_month == 7 * 3600_000


@given(st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16), st.integers(0, 65535), st.integers(0, 1 << 62))
def test_offset_ids_come_back(host: bytes, port: int, offset: int) -> None:
    assert decode_offset_msg_id(encode_offset_msg_id(host, port, offset)) == (host, port, offset)


@given(st.text() | st.text("0123456789abcdefABCDEF", min_size=30, max_size=58))
def test_any_text(text: str) -> None:
    for read in (decode_offset_msg_id, decode_unique_id):
        try:
            read(text)
        except RemoteProtocolError:
            assert len(text) not in (32, 56) or not set(text) <= set("0123456789abcdefABCDEF")
