"""The tolerant JSON reader and the two forms of writing."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from grocketmq.errors import LocalProtocolError, RemoteProtocolError
from grocketmq.wire import json_codec
from grocketmq.wire.json_codec import MAX_DEPTH, Pairs, dumps, loads_tolerant

QUEUE = {"brokerName": "a", "queueId": 0, "topic": "t"}
QUEUE_TEXT = '{"brokerName":"a","queueId":0,"topic":"t"}'

LONGS = st.integers(-(1 << 63), (1 << 63) - 1)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)))
SCALARS = st.none() | st.booleans() | LONGS | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
#: "$ref" means something else to the reader.
KEYS = TEXTS.filter(lambda key: key != "$ref")


def maps(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    objects = st.dictionaries(KEYS, inner, max_size=4)
    numbered = st.dictionaries(st.integers(-(10**18), 10**18), inner, min_size=1, max_size=4)
    return objects | numbered | st.lists(st.tuples(objects, inner), min_size=1, max_size=4).map(Pairs)


VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | maps(inner), max_leaves=20)

#: Texts made of the pieces the syntax is made of, so that most get far into the parser.
PIECES = st.sampled_from(
    ["{", "}", "[", "]", ":", ",", '"a"', "'b'", "0", "-1", "1.5", "1e9", "null", "true", "NaN", "key", " ", "\\", '"']
    + [QUEUE_TEXT, '{"$ref":"$.a"}', '"$ref"', '"$.a[0]"', '"$"', "\\u12", "9" * 30, "\x00", "中"]
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":1}', {"a": 1}),
        ('{0:"x",-7:"y"}', {0: "x", -7: "y"}),
        ("{" + QUEUE_TEXT + ":5}", Pairs([(QUEUE, 5)])),
        ("{" + QUEUE_TEXT + ':{"b":[1,2]},"s":{1:2}}', Pairs([(QUEUE, {"b": [1, 2]}), ("s", {1: 2})])),
        ("{{" + QUEUE_TEXT + ":1}:2}", Pairs([(Pairs([(QUEUE, 1)]), 2)])),
        ("{bare:1, $x_1 : true}", {"bare": 1, "$x_1": True}),
        ("{'it''s':1}", None),
        ("{'it\\'s \"x\"':'\\u4e2d\\n'}", {'it\'s "x"': "中\n"}),
        (" [ { 1 : [ ] , 2 : { } } ] ", [{1: [], 2: {}}]),
        ("{1:null,2:-1.5e3}", {1: None, 2: -1500.0}),
        ("{0:1", None),
        ("{0:1,}", None),
        ("{0 1}", None),
        ("{0:1}x", None),
        ("{0:NaN}", None),
        ("{0:Infinity}", None),
        ("{0:01}", None),
        ("{0x1:1}", None),
        ("{[1]:1}", None),
        ("{0:'abc}", None),
        ("NaN", None),
        ("", None),
    ],
)
def test_reading(text: str, value: Any) -> None:
    for data in (text, text.encode()):
        if value is None:
            with pytest.raises(RemoteProtocolError, match=r"^answer: .* at character \d+"):
                loads_tolerant(data, "answer")
        else:
            assert loads_tolerant(data, "answer") == value


def test_error_says_where() -> None:
    with pytest.raises(RemoteProtocolError, match=re.escape("ConsumeStats: ':' expected at character 8: '?5}}'")):
        loads_tolerant(b'{"a":{0 ?5}}', "ConsumeStats")
    with pytest.raises(RemoteProtocolError, match="ConsumeStats: no UTF-8 at byte 1"):
        loads_tolerant(b'"\xff"', "ConsumeStats")


@pytest.mark.parametrize("opening", ["[", '{"a":', "{0:", "{"])
def test_depth_is_bounded(opening: str) -> None:
    for text in (opening * 200_000, opening * 200_000 + "1"):
        with pytest.raises(RemoteProtocolError, match="nested"):
            loads_tolerant(text, "deep")


def test_deepest_that_is_read() -> None:
    inside = "{0:" * MAX_DEPTH + "1" + "}" * MAX_DEPTH
    assert dumps(loads_tolerant(inside), object_keys=True).decode() == inside
    with pytest.raises(RemoteProtocolError, match="deeper than"):
        loads_tolerant("{0:" + inside + "}")


@given(st.binary() | st.lists(PIECES).map(lambda pieces: "".join(pieces).encode()))
@example(b"[" * 5_000)
@example(b"\xef\xbb\xbf{}")
@example(b"-" + b"1" * 10_000)
@example(b'{0:"\\ud800"}')
def test_any_bytes(data: bytes) -> None:
    refusal = ""
    try:
        loads_tolerant(data, "any")
    except RemoteProtocolError as error:
        refusal = str(error)
    assert refusal == "" or refusal.startswith("any: ")


@given(VALUES)
def test_raw_form_comes_back(value: Any) -> None:
    assert loads_tolerant(dumps(value, object_keys=True)) == value


@given(VALUES)
def test_strict_form_is_json(value: Any) -> None:
    assert json.loads(dumps(value)) == loads_tolerant(dumps(value))


def test_both_forms() -> None:
    value = {"offsetTable": Pairs([(QUEUE, 5)]), "addrs": {0: "中"}}
    raw = '{"offsetTable":{' + QUEUE_TEXT + ':5},"addrs":{0:"中"}}'
    assert dumps(value, object_keys=True).decode() == raw
    strict = '{"offsetTable":{' + json.dumps(QUEUE_TEXT) + ':5},"addrs":{"0":"中"}}'
    assert dumps(value).decode() == strict


@pytest.mark.parametrize("value", [float("nan"), b"x", {"a": {1, 2}}, "\ud800"])
def test_what_cannot_be_written(value: Any) -> None:
    for object_keys in (False, True):
        with pytest.raises(LocalProtocolError):
            dumps(value, object_keys=object_keys)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":{"x":1},"b":{"$ref":"$.a"}}', {"a": {"x": 1}, "b": {"x": 1}}),
        ('{"b":{"$ref":"$.a"},"a":{"x":1}}', {"a": {"x": 1}, "b": {"x": 1}}),
        (r'{"a-b":{"c":[0,{"d":2}]},"e":[{"$ref":"$.a\\-b.c[1]"}]}', {"a-b": {"c": [0, {"d": 2}]}, "e": [{"d": 2}]}),
        ('{0:{"x":1},"b":{"$ref":"$[0]"}}', {0: {"x": 1}, "b": {"x": 1}}),
        ("{" + QUEUE_TEXT + ':{"$ref":"$[0]"}}', None),
        ('{"$ref":"$"}', None),
        ('{"a":{"$ref":"$"}}', None),
        ('{"a":{"$ref":".."}}', None),
        ('{"a":{"$ref":"@"}}', None),
        ('{"a":{"$ref":""}}', None),
        ('{{"$ref":"$.x.null"}:1}', None),
        ('{"a":{"$ref":"$.b"}}', None),
        ('{"a":{"$ref":"$.b"},"b":{"$ref":"$.a"}}', None),
        ('{"a":{"b":{"$ref":"$.c"}},"c":{"d":{"$ref":"$.a"}}}', None),
        ('{"a":[1],"b":{"$ref":"$.a[7]"}}', None),
    ],
)
def test_references(text: str, value: Any) -> None:
    if value is None:
        with pytest.raises(RemoteProtocolError, match="reference"):
            loads_tolerant(text)
    else:
        assert loads_tolerant(text) == value


def test_values_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_codec, "MAX_TOLERANT_VALUES", 1_000)
    entry = QUEUE_TEXT + ':{"offset":[1,2,3]}'
    assert len(loads_tolerant('{"table":{' + ",".join([entry] * 400) + "}}")["table"].items) == 400
    with pytest.raises(RemoteProtocolError, match="more than 1000 values"):
        loads_tolerant("{" + ",".join(f"{number}:0" for number in range(1_001)) + "}")


def test_many_failures_of_the_strict_parser() -> None:
    text = '{"table":[' + ",".join(["{0:[{1:2}]}"] * 1_000) + "]}"
    assert loads_tolerant(text) == {"table": [{0: [{1: 2}]}] * 1_000}


def test_references_cannot_blow_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_codec, "MAX_REFERENCED_NODES", 1_000)
    rows = ",".join(['{"$ref":"$.a"}'] * 100)
    with pytest.raises(RemoteProtocolError, match="more than 1000 values"):
        loads_tolerant('{"a":' + json.dumps(list(range(100))) + ',"b":[' + rows + "]}")
