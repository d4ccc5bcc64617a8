"""Every header class against what Java writes and reads."""

from __future__ import annotations

from typing import Any

import pytest

from grocketmq.errors import RemoteProtocolError
from grocketmq.wire import headers
from grocketmq.wire.headers import CommandHeader, SendMessageRequestHeader, SendMessageRequestHeaderV2
from tests.vectors.loader import load, vector

#: Kinds that are no class.
RULES = ("missing_required", "send_header_v1_v2")
CLASSES = sorted({case["kind"] for case in load("headers")["cases"]} - set(RULES))


def header_class(name: str) -> type[CommandHeader]:
    return getattr(headers, name)


def build(cls: type[CommandHeader], fields: dict[str, Any]) -> CommandHeader:
    """A header from the wire's names."""
    attributes = {wire: attribute for attribute, wire in cls.wire_names().items()}
    return cls(**{attributes[name]: value for name, value in fields.items()})


def as_fields(header: CommandHeader) -> dict[str, Any]:
    return {wire: getattr(header, attribute) for attribute, wire in header.wire_names().items()}


@vector("headers", *CLASSES)
def test_header(case: dict[str, Any]) -> None:
    cls = header_class(case["kind"])
    assert case["code"] == cls.CODE
    values = {field["name"]: field["value"] for field in case["fields"]}
    assert values.keys() == set(cls.wire_names().values())
    assert build(cls, values).to_ext() == (case["ext"] or {})
    if case["decode_error"]:
        with pytest.raises(RemoteProtocolError, match=cls.__name__):
            cls.from_ext(case["ext"])
    else:
        assert as_fields(cls.from_ext(case["ext"])) == case["decoded"]


@vector("headers", *CLASSES)
def test_required_fields(case: dict[str, Any]) -> None:
    """A required field that is gone is named; primitive ones have a default in Java and may have one here."""
    if case["decode_error"] or not case["ext"]:
        return
    cls = header_class(case["kind"])
    assert cls.parse(case["ext"]) == cls.from_ext(case["ext"])
    for field in case["fields"]:
        wire = field["name"]
        if field["required"] and field["type"][0].isupper() and wire != "order":
            with pytest.raises(RemoteProtocolError, match=rf"{cls.__name__}: field {wire} is missing"):
                cls.parse({name: text for name, text in case["ext"].items() if name != wire})


@vector("headers", "missing_required")
def test_missing_required(case: dict[str, Any]) -> None:
    cls = header_class(case["class"])
    if case["decode_error"]:
        with pytest.raises(RemoteProtocolError):
            cls.from_ext(case["ext"])
        return
    assert as_fields(cls.from_ext(case["ext"])) == case["decoded"]
    with pytest.raises(RemoteProtocolError, match=case["missing"]):
        cls.parse(case["ext"])


@vector("headers", "send_header_v1_v2")
def test_send_header_v1_v2(case: dict[str, Any]) -> None:
    v1 = build(SendMessageRequestHeader, case["v1_fields"])
    assert isinstance(v1, SendMessageRequestHeader)
    assert v1.to_ext() == case["v1_ext"]
    assert v1.to_v2().to_ext() == case["v2_ext"]
    assert as_fields(SendMessageRequestHeaderV2.parse(case["v2_ext"]).to_v1()) == case["parsed_by_broker"]
