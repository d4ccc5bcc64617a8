"""Signing, beyond the vectors."""

from __future__ import annotations

import pytest

from grocketmq.errors import ConfigError
from grocketmq.wire.acl import SIGNATURE, Credentials, signed_fields


def test_secrets_are_not_shown() -> None:
    shown = repr(Credentials("name", "hidden-key", "hidden-token"))
    assert "name" in shown
    assert "hidden" not in shown


@pytest.mark.parametrize(("access_key", "secret_key"), [("", "s"), ("a", "")])
def test_empty_keys_are_refused(access_key: str, secret_key: str) -> None:
    with pytest.raises(ConfigError):
        Credentials(access_key, secret_key)


def test_a_field_without_a_value_does_not_count() -> None:
    credentials = Credentials("a", "s")
    with_none = signed_fields({"topic": "T", "queueId": None}, b"x", credentials)
    assert with_none[SIGNATURE] == signed_fields({"topic": "T"}, b"x", credentials)[SIGNATURE]


def test_signing_twice_changes_nothing() -> None:
    credentials = Credentials("a", "s", "t")
    once = signed_fields({"topic": "T"}, b"x", credentials)
    assert signed_fields(once, b"x", credentials) == once


@pytest.mark.parametrize("change", [{"topic": "U"}, {"new": "1"}])
def test_a_changed_field_changes_the_signature(change: dict[str, str | None]) -> None:
    credentials = Credentials("a", "s")
    fields: dict[str, str | None] = {"topic": "T"}
    before = signed_fields(fields, None, credentials)
    assert signed_fields({**fields, **change}, None, credentials)[SIGNATURE] != before[SIGNATURE]
