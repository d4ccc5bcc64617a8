"""The settings that every client takes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from grocketmq.codes import SerializeType
from grocketmq.errors import ConfigError
from grocketmq.remoting.client import RPCHook
from grocketmq.remoting.stream import split_address
from grocketmq.wire.acl import Credentials
from grocketmq.wire.framing import MAX_FRAME_BYTES

__all__ = ["ClientConfig", "Credentials", "split_options"]

#: Where the name servers are read from when no option names them, in this order.
NAMESRV_VARIABLES = ("GROCKETMQ_NAMESRV", "NAMESRV_ADDR")


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """Settings that producers, consumers and admin clients have in common.

    Clients whose settings are equal share one :class:`~grocketmq.client.instance.ClientInstance`.

    Source of the defaults: Apache RocketMQ 5.3.3, module client, class ``ClientConfig``; module remoting, class
    ``NettyClientConfig``.
    """

    #: Name servers: ``"host:port;host:port"`` or a list of such.  Default: the environment variables GROCKETMQ_NAMESRV, then
    #: NAMESRV_ADDR.
    namesrv: str | Iterable[str] | None = None
    #: Sets clients of one process apart that would otherwise share an instance.  Default: none.
    instance_name: str = ""
    #: The name under which brokers know this instance; equal ids in one group break its rebalance.  Default: made from
    #: address, process id and start time.
    client_id: str | None = None
    #: The unit of a multi-unit deployment.  Default: none.
    unit_name: str | None = None
    #: Seconds for calls that have no default of their own.
    request_timeout: float = 3.0
    #: Seconds for a connection to be made, name resolution included.
    connect_timeout: float = 3.0
    #: Seconds between heartbeats to all brokers; they forget a client after 120 s of silence.
    heartbeat_interval: float = 30.0
    #: Seconds between looks for changed routes.
    route_poll_interval: float = 30.0
    #: Seconds between two times that offsets are stored.
    persist_offset_interval: float = 5.0
    #: Header encoding of requests, ``"JSON"`` or ``"ROCKETMQ"``; answers are read in either.
    serializer: str = "JSON"
    #: Whether to use the brokers' second port (two below the first), which some operators keep for sends.
    vip_channel: bool = False
    #: The longest frame to accept, in bytes.
    max_frame_size: int = MAX_FRAME_BYTES
    #: Keys for brokers with access control.  Default: none.
    credentials: Credentials | None = None
    #: Objects with ``before_request`` / ``after_response`` (see :class:`~grocketmq.remoting.client.RPCHook`), called in order.
    hooks: Iterable[RPCHook] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "namesrv", _name_servers(self.namesrv))
        object.__setattr__(self, "hooks", tuple(self.hooks))
        for name in _SECONDS:
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be a number of seconds above 0")
        if self.serializer not in SerializeType.__members__:
            raise ConfigError(f"serializer {self.serializer!r} is none of {', '.join(SerializeType.__members__)}")
        if self.max_frame_size < 1024:
            raise ConfigError(f"max_frame_size of {self.max_frame_size} bytes holds no answer; take at least 1024")

    @property
    def namesrv_addresses(self) -> tuple[str, ...]:
        """The name servers, each ``host:port``."""
        assert isinstance(self.namesrv, tuple)
        return self.namesrv

    @property
    def serialize_type(self) -> SerializeType:
        """The header encoding of requests."""
        return SerializeType[self.serializer]


_SECONDS = (
    "request_timeout",
    "connect_timeout",
    "heartbeat_interval",
    "route_poll_interval",
    "persist_offset_interval",
)


def _name_servers(given: str | Iterable[str] | None) -> tuple[str, ...]:
    if given is None:
        given = next((os.environ[name] for name in NAMESRV_VARIABLES if os.environ.get(name)), None)
    if given is None:
        raise ConfigError(f"no name server: give namesrv= or set {' or '.join(NAMESRV_VARIABLES)}")
    pieces = given.split(";") if isinstance(given, str) else [piece for one in given for piece in one.split(";")]
    addresses = tuple(piece.strip() for piece in pieces if piece.strip())
    if not addresses:
        raise ConfigError(f"namesrv {given!r} names no server")
    for address in addresses:
        split_address(address)
    return addresses


def split_options(options: Mapping[str, Any]) -> tuple[ClientConfig, dict[str, Any]]:
    """Part a client's keyword arguments into the common settings and its own.

    :param options: all keyword arguments.
    :returns: the common settings, and the rest by name.
    """
    common = {one.name for one in fields(ClientConfig)}
    mine = {name: value for name, value in options.items() if name not in common}
    return ClientConfig(**{name: value for name, value in options.items() if name in common}), mine
