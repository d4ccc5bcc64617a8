"""The options of the KapokMQ clients."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from grocketmq.errors import ConfigError
from grocketmq.kapokmq.wire import encodable
from grocketmq.remoting.tls import TLSConfig, TLSOption

__all__ = ["ClusterProducerConfig", "ConsumerConfig", "KapokConfig", "ProducerConfig", "check_key", "server_address"]


@dataclass(frozen=True, kw_only=True)
class KapokConfig:
    """What every KapokMQ client takes.

    :raises ConfigError: naming the option that cannot work.
    """

    #: ``"ws"``, or ``"wss"`` for a server behind a TLS proxy.
    protocol: Literal["ws", "wss"] = "ws"
    #: The longest pause between two tries to connect again, seconds.
    check_time: float = 10.0
    #: For one try to connect: name, connection, TLS and login together, seconds.
    connect_timeout: float = 5.0
    #: Between two pings, seconds.  A server that is silent for three of them counts as gone.
    ping_interval: float = 30.0
    #: For TLS: an ``ssl.SSLContext`` or a ``TLSConfig``; None checks certificates against the system's authorities.
    ssl_context: TLSOption = None

    def __post_init__(self) -> None:
        if self.protocol not in ("ws", "wss"):
            raise ConfigError(f"protocol {self.protocol!r} is neither 'ws' nor 'wss'")
        TLSConfig.of(self.ssl_context)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "float" and not (type(value) in (int, float) and 0 < value < float("inf")):
                raise ConfigError(f"{field.name} {value!r} is not a number of seconds above 0")
            if field.type == "int" and (type(value) is not int or value < 0):
                raise ConfigError(f"{field.name} {value!r} is not a whole number, 0 or more")


@dataclass(frozen=True, kw_only=True)
class ProducerConfig(KapokConfig):
    """What a producer takes."""

    #: How long a send waits for its acknowledgement, and for a link, when it has no timeout of its own; seconds.
    ack_timeout: float = 10.0
    #: Messages under way at once; a further send waits.
    max_in_flight: int = 2048
    #: Send again what was not acknowledged when its link was lost.  The server may get it twice, under two codes.
    retry: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_in_flight < 1:
            raise ConfigError(f"max_in_flight {self.max_in_flight} leaves no room for a message")


@dataclass(frozen=True, kw_only=True)
class ClusterProducerConfig(ProducerConfig):
    """What a producer for a cluster takes."""

    #: ``"http"``, or ``"https"`` for a registry behind a TLS proxy.
    registry_protocol: Literal["http", "https"] = "http"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.registry_protocol not in ("http", "https"):
            raise ConfigError(f"registry_protocol {self.registry_protocol!r} is neither 'http' nor 'https'")


@dataclass(frozen=True, kw_only=True)
class ConsumerConfig(KapokConfig):
    """What a consumer takes."""

    #: Messages that may wait here to be received.
    max_buffered: int = 10_000
    #: When that many wait: ``"pause"`` reads no more, which holds up the pushes to everybody when the server's buffers are
    #: full; ``"drop"`` forgets further ones unacknowledged, so a server that pushes to one consumer pushes them again later.
    overflow: Literal["pause", "drop"] = "pause"
    #: So many codes are remembered, and a message that comes again is not handed out again; 0 for none.
    dedup: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_buffered < 1:
            raise ConfigError(f"max_buffered {self.max_buffered} leaves no room for a message")
        if self.overflow not in ("pause", "drop"):
            raise ConfigError(f"overflow {self.overflow!r} is neither 'pause' nor 'drop'")


def server_address(addr: str, port: int) -> str:
    """``host:port`` of a server.

    :param addr: host name or address; IPv6 with or without brackets.
    :param port: its port.
    :raises ConfigError: it can be no address.
    """
    if type(port) is not int or not 0 < port < 65536:
        raise ConfigError(f"port {port!r} is not a number from 1 to 65535")
    if type(addr) is not str or not addr or not addr.isprintable() or any(char in addr for char in "/?#@ "):
        raise ConfigError(f"addr {addr!r} is not a host name or an address")
    host = addr.strip("[]")
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        address.encode("idna")
    except UnicodeError as error:
        raise ConfigError(f"addr {addr!r} is not a host name: {error}") from None
    return address


def check_key(secret_key: str) -> None:
    """Check a secret key; the error does not show it.

    :raises ConfigError: it is no text that could be sent.
    """
    if not isinstance(secret_key, str):
        raise ConfigError(f"secret_key is a string, not {type(secret_key).__name__}")
    if not encodable(secret_key):
        raise ConfigError("secret_key holds a lone surrogate, which UTF-8 cannot express")
