"""The settings that every client takes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, TypeVar

from grocketmq.client.namesrv import split_namesrv
from grocketmq.codes import SerializeType
from grocketmq.errors import ConfigError
from grocketmq.model.namespace import TRACE_TOPIC
from grocketmq.model.validators import check_topic
from grocketmq.remoting.http import check_url
from grocketmq.remoting.tls import TLSConfig, TLSOption
from grocketmq.wire.acl import Credentials
from grocketmq.wire.framing import MAX_FRAME_BYTES

__all__ = ["ClientConfig", "Credentials", "check_number", "check_ranges", "split_options"]

T = TypeVar("T")

_NAMESPACE = re.compile(r"[|a-zA-Z0-9_-]+")
#: A name server address that names an instance, which is the namespace.
_ENDPOINT = re.compile(r"(?:\w+://)?(MQ_INST_\w+_\w+)\.")

#: Where the name servers are read from when no option names them, in this order.
NAMESRV_VARIABLES = ("GROCKETMQ_NAMESRV", "NAMESRV_ADDR")


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """Settings that producers, consumers and admin clients have in common.

    Clients whose settings are equal share one :class:`~grocketmq.client.instance.ClientInstance`.

    Source of the defaults: Apache RocketMQ 5.3.3, module client, class ``ClientConfig``; module remoting, class
    ``NettyClientConfig``.
    """

    #: Name servers: ``"host:port;host:port"``, a list of such, or the ``http://`` or ``https://`` URL of an address server,
    #: which is asked for them at the start and every two minutes.  Default: the environment variables GROCKETMQ_NAMESRV, then
    #: NAMESRV_ADDR.
    namesrv: str | Iterable[str] | None = None
    #: Sets clients of one process apart that would otherwise share an instance.  Default: none.
    instance_name: str = ""
    #: The name under which brokers know this instance; equal ids in one group break its rebalance.  Default: made from
    #: address, process id and start time.
    client_id: str | None = None
    #: What stands before the names of all topics and groups, ``namespace%name``, unseen by the application.  Default: none, or
    #: the one in a name server address of the form ``MQ_INST_x_y.host:port``.
    namespace: str | None = None
    #: The same in header fields of its own, for servers that know it.  Default: none.
    namespace_v2: str | None = None
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
    #: Whether a client that was started before a fork is started anew in the child.  Default: producers are, with their first
    #: use there; consumers raise ``ForkError``, for a child that was made for other things should take no share of the queues.
    restart_after_fork: bool | None = None
    #: Connect to name servers and brokers over TLS: True to trust what the system trusts, a
    #: :class:`~grocketmq.remoting.tls.TLSConfig`, or an ``ssl.SSLContext`` for clients.
    tls: TLSOption = None
    #: Objects with some of the methods that ``grocketmq.hooks`` lists, and ``before_request`` and ``after_response`` (see
    #: :class:`~grocketmq.remoting.client.RPCHook`); called in order.
    hooks: Iterable[object] = field(default=(), compare=False)
    #: Whether to tell the trace topic what happens to each message, for operators to look up.
    trace: bool = False
    #: Where traces go.
    trace_topic: str = TRACE_TOPIC

    #: What counts when settings are compared: which objects the hooks are, not what they equal.
    _hook_ids: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "namesrv", _name_servers(self.namesrv))
        object.__setattr__(self, "namespace", self.namespace or _namespace_of(self.namesrv_addresses[0]))
        if not hasattr(self.hooks, "__iter__"):
            raise ConfigError(f"hooks is one {type(self.hooks).__name__}, not a list of hooks")
        object.__setattr__(self, "hooks", tuple(self.hooks))
        object.__setattr__(self, "tls", TLSConfig.of(self.tls))
        object.__setattr__(self, "_hook_ids", tuple(map(id, self.hooks)))
        for hook in self.hooks:
            if hasattr(hook, "before_request") is not hasattr(hook, "after_response"):
                raise ConfigError(f"hook {hook!r} has one of before_request and after_response; give it both or none")
        check_ranges(self, _RANGES)
        if self.credentials is not None and not isinstance(self.credentials, Credentials):  # not shown: it may be the secret
            raise ConfigError(
                f"credentials is a {type(self.credentials).__name__}; it must be Credentials(access_key, secret_key)"
            )
        check_topic(self.trace_topic)
        for name in ("namespace", "namespace_v2"):
            value = getattr(self, name)
            if value is not None and not _NAMESPACE.fullmatch(value):
                raise ConfigError(f"{name} {value!r} holds others than letters, digits and | _ -")
        if self.serializer not in SerializeType.__members__:
            raise ConfigError(f"serializer {self.serializer!r} is none of {', '.join(SerializeType.__members__)}")

    @property
    def namesrv_addresses(self) -> tuple[str, ...]:
        """The name servers, each ``host:port``; with an address server, its URL alone."""
        assert isinstance(self.namesrv, tuple)
        return self.namesrv

    @property
    def address_server(self) -> str | None:
        """The URL of the address server, None without one."""
        first = self.namesrv_addresses[0]
        return first if _is_url(first) else None

    @property
    def tls_config(self) -> TLSConfig | None:
        """How to connect over TLS, None for not at all."""
        assert self.tls is None or isinstance(self.tls, TLSConfig)
        return self.tls

    @property
    def serialize_type(self) -> SerializeType:
        """The header encoding of requests."""
        return SerializeType[self.serializer]


#: A day: what waits longer is a slip.
_LONGEST = 24 * 3600.0
_SHORTEST = 0.001
_RANGES: dict[str, tuple[float, float]] = {
    "request_timeout": (_SHORTEST, _LONGEST),
    "connect_timeout": (_SHORTEST, _LONGEST),
    "heartbeat_interval": (_SHORTEST, _LONGEST),
    "route_poll_interval": (_SHORTEST, _LONGEST),
    "persist_offset_interval": (_SHORTEST, _LONGEST),
    "max_frame_size": (1024, (1 << 31) - 1),
}


def _name_servers(given: str | Iterable[str] | None) -> tuple[str, ...]:
    if given is None:
        given = next((os.environ[name] for name in NAMESRV_VARIABLES if os.environ.get(name)), None)
    if given is None:
        raise ConfigError(f"no name server: give namesrv= or set {' or '.join(NAMESRV_VARIABLES)}")
    several = hasattr(given, "__iter__") and not isinstance(given, (str, bytes))
    pieces: tuple[Any, ...] = tuple(given) if several else (given,)
    if not all(isinstance(piece, str) for piece in pieces):
        raise ConfigError(f"namesrv is {given!r:.100}; it must be 'host:port;host:port' or a list of such")
    text = ";".join(pieces)
    if _ENDPOINT.match(text.strip()):
        text = text.strip().partition("://")[2] or text
    if _is_url(text.strip()) and ";" not in text:
        check_url(text.strip())
        return (text.strip(),)
    return split_namesrv(text)


def _namespace_of(address: str) -> str | None:
    found = _ENDPOINT.match(address)
    return found and found[1]


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def split_options(client: str, options: Mapping[str, Any], own: type[T]) -> tuple[ClientConfig, T]:
    """Part a client's keyword arguments into the common settings and its own.

    :param client: the client's class, for the message.
    :param options: all keyword arguments.
    :param own: the dataclass of its own settings.
    :raises TypeError: for an option that is none of either.
    :raises ConfigError: for a value that cannot work.
    """
    common = {one.name for one in fields(ClientConfig) if one.init}
    mine = {one.name for one in fields(own)}  # type: ignore[arg-type]
    unknown = options.keys() - common - mine
    if unknown:
        close = [match for name in sorted(unknown) for match in get_close_matches(name, common | mine, 1)]
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise TypeError(f"{client} has no option {', '.join(map(repr, sorted(unknown)))}{hint}")
    return (
        ClientConfig(**{name: value for name, value in options.items() if name in common}),
        own(**{name: value for name, value in options.items() if name in mine}),
    )


def check_ranges(settings: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse numbers that cannot work; never blocks.  None is for fields whose type has it.

    :param settings: a dataclass.
    :param ranges: field -> least and most, as for :func:`check_number`.
    :raises ConfigError: naming the field, its value and the range.
    """
    optional = {one.name for one in fields(settings) if "None" in str(one.type)}  # type: ignore[arg-type]
    for name, (least, most) in ranges.items():
        value = getattr(settings, name)
        if value is not None or name not in optional:
            check_number(name, value, least, most)


def check_number(name: str, value: object, least: float, most: float) -> None:
    """Refuse what is no number of a range; never blocks.

    :param name: the field or the parameter.
    :param value: its value.
    :param least: the least that works; when this and ``most`` are both an ``int``, it must be a whole number.
    :param most: the most that works.
    :raises ConfigError: naming both, and the range.
    """
    whole = isinstance(least, int) and isinstance(most, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not least <= value <= most:
        raise ConfigError(f"{name} is {value!r:.80}; it must be a {'whole ' * whole}number within {least}..{most}")
