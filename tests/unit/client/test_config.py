"""The settings that every client takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from grocketmq.client.config import NAMESRV_VARIABLES, ClientConfig, Credentials, check_ranges, split_options
from grocketmq.codes import SerializeType
from grocketmq.errors import ConfigError


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMESRV_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a:9876", ("a:9876",)),
        ("a:9876;b:9877", ("a:9876", "b:9877")),
        (" a:9876 ; b:9877 ;", ("a:9876", "b:9877")),
        (["a:9876", "b:9877"], ("a:9876", "b:9877")),
        (("a:9876;b:9877", "c:1"), ("a:9876", "b:9877", "c:1")),
        ("[::1]:9876", ("[::1]:9876",)),
    ],
)
def test_name_servers(given: Any, expected: tuple[str, ...]) -> None:
    assert ClientConfig(namesrv=given).namesrv_addresses == expected


@pytest.mark.parametrize("given", ["", ";;", [], "a", "a:", "a:b", "a:9876;b", "a:70000", 9876, b"a:9876", ["a:9876", 5]])
def test_name_servers_that_are_none(given: Any) -> None:
    with pytest.raises(ConfigError):
        ClientConfig(namesrv=given)


def test_name_servers_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given both variables, when no option names the servers, the first variable counts; the option counts before both."""
    monkeypatch.setenv("NAMESRV_ADDR", "second:1;third:2")
    assert ClientConfig().namesrv_addresses == ("second:1", "third:2")
    monkeypatch.setenv("GROCKETMQ_NAMESRV", "first:1")
    assert ClientConfig().namesrv_addresses == ("first:1",)
    assert ClientConfig(namesrv="given:1").namesrv_addresses == ("given:1",)


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROCKETMQ_NAMESRV", "")
    monkeypatch.setenv("NAMESRV_ADDR", "a:1")
    assert ClientConfig().namesrv_addresses == ("a:1",)


def test_without_name_servers_both_variables_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        ClientConfig()
    assert all(name in str(caught.value) for name in ("namesrv", *NAMESRV_VARIABLES))


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="nonsense"):
        ClientConfig(namesrv="a:1", nonsense=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("request_timeout", 0),
        ("connect_timeout", -1.0),
        ("heartbeat_interval", 0.0),
        ("route_poll_interval", float("nan")),
        ("persist_offset_interval", 0),
        ("serializer", "json"),
        ("max_frame_size", 100),
        ("max_frame_size", 4096.5),
        ("request_timeout", None),
        ("hooks", object()),
        ("credentials", "account:key"),
    ],
)
def test_an_option_that_cannot_work_is_named(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=option):
        ClientConfig(namesrv="a:1", **{option: value})


def test_serialize_type() -> None:
    assert ClientConfig(namesrv="a:1").serialize_type is SerializeType.JSON
    assert ClientConfig(namesrv="a:1", serializer="ROCKETMQ").serialize_type is SerializeType.ROCKETMQ


def test_secrets_are_not_shown() -> None:
    config = ClientConfig(namesrv="a:1", credentials=Credentials("account", "s3cret-key", "t0ken"))
    assert "s3cret-key" not in repr(config)
    assert "t0ken" not in repr(config)
    assert "account" in repr(config)


def test_equal_settings_are_equal_however_they_are_written() -> None:
    """Clients share an instance when their settings are equal, so equal ones must also hash alike."""
    one, other = ClientConfig(namesrv="a:1;b:2"), ClientConfig(namesrv=["a:1", "b:2"], hooks=[])
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize(
    "different",
    [
        {"namesrv": "b:1"},
        {"instance_name": "second"},
        {"client_id": "x"},
        {"unit_name": "u"},
        {"request_timeout": 4.0},
        {"serializer": "ROCKETMQ"},
        {"vip_channel": True},
        {"credentials": Credentials("account", "key")},
        {"hooks": [object()]},
    ],
)
def test_different_settings_are_not_equal(different: dict[str, Any]) -> None:
    assert ClientConfig(namesrv="a:1") != ClientConfig(**{"namesrv": "a:1", **different})


def test_credentials_count_by_all_their_parts() -> None:
    configs = {
        ClientConfig(namesrv="a:1", credentials=Credentials("account", key, token))
        for key in ("key", "other")
        for token in (None, "token")
    }
    assert len(configs) == 4


@dataclass(frozen=True)
class Own:
    """What a client may add."""

    retries: int = 2
    pause: float = 1.0
    limit: int | None = 5

    def __post_init__(self) -> None:
        check_ranges(self, {"retries": (0, 10), "pause": (0.0, 10.0), "limit": (1, 10)})


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("retries", 1.5, "a whole number within 0..10"),
        ("retries", 1.0, "a whole number"),
        ("retries", None, "a whole number"),
        ("retries", True, "a whole number"),
        ("retries", 11, "a whole number"),
        ("pause", None, "a number within 0.0..10.0"),
        ("pause", float("nan"), "a number"),
        ("limit", 0, "a whole number within 1..10"),
        ("limit", 2.5, "a whole number"),
    ],
)
def test_numbers_that_cannot_work(option: str, value: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=f"{option} is {value!r}; it must be {why}".replace(".", r"\.")):
        Own(**{option: value})


def test_numbers_that_work() -> None:
    """A whole number is seconds, too, and None is nothing wrong where the type has it."""
    assert Own(retries=0, pause=1, limit=None) == Own(0, 1.0, None)


def test_options_are_parted() -> None:
    common, mine = split_options("Producer", {"namesrv": "a:1", "instance_name": "x", "retries": 3}, Own)
    assert common == ClientConfig(namesrv="a:1", instance_name="x")
    assert mine == Own(3)


def test_credentials_of_a_wrong_type_are_not_shown() -> None:
    with pytest.raises(ConfigError, match="credentials is a tuple") as caught:
        ClientConfig(namesrv="a:1", credentials=("account", "s3cret"))  # type: ignore[arg-type]
    assert "s3cret" not in str(caught.value)


def test_a_misspelt_option_gets_a_hint() -> None:
    with pytest.raises(TypeError, match="no option 'name_server'; did you mean namesrv"):
        split_options("Producer", {"name_server": "a:1"}, Own)


def test_options_that_are_none_of_either_are_named() -> None:
    with pytest.raises(TypeError, match="Producer has no option 'more', 'nonsense'"):
        split_options("Producer", {"namesrv": "a:1", "nonsense": 1, "more": 2}, Own)
