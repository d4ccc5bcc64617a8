"""The whole cluster in one object."""

from __future__ import annotations

import logging
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from grocketmq.embedded.broker import Broker, BrokerConfig
from grocketmq.embedded.clock import Clock
from grocketmq.embedded.control import Action, Control, Fault
from grocketmq.embedded.namesrv import NameServer
from grocketmq.errors import ConfigError
from grocketmq.wire.bodies import TopicConfig
from grocketmq.wire.command import RemotingCommand

__all__ = ["ClusterCounts", "EmbeddedCluster"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClusterCounts:
    """How much is in a cluster now.

    :param topics: topics of users, each counted once.
    :param groups: consumer groups with members.
    :param messages: messages that all brokers have stored, those of the brokers' own topics too.
    :param connections: to brokers, their slaves and the name server.
    """

    topics: int
    groups: int
    messages: int
    connections: int


class EmbeddedCluster:
    """A name server and brokers in greenlets of this process, which speak the real protocol on loopback.

    For development, tests and demos: there are no replicas, and what it holds is in memory and ends with
    the process, unless it is given a directory.

    >>> with EmbeddedCluster() as cluster:
    ...     Producer("group", namesrv=cluster.namesrv)

    :param brokers: how many; their names are ``broker-a``, ``broker-b``, ...
    :param namesrv_port: the name server's port; 0 lets the system choose.
    :param host: the address to listen on, as a number; other machines reach the cluster only when it is one of theirs to see.
    :param data: a directory where all is kept too: what was acknowledged survives the death of the process, though not the
        loss of power.  None to keep it in memory only.
    :param settings: the fields of :class:`~grocketmq.embedded.broker.BrokerConfig`.
    """

    def __init__(
        self,
        brokers: int = 1,
        namesrv_port: int = 0,
        *,
        host: str = "127.0.0.1",
        data: str | Path | None = None,
        **settings: Any,
    ) -> None:
        if not 1 <= brokers <= len(string.ascii_lowercase):
            raise ConfigError(f"brokers is {brokers}, not within 1..{len(string.ascii_lowercase)}")
        config = BrokerConfig(**settings)
        self._in_directory = data is not None
        #: The cluster's time; ``clock.advance(seconds)`` moves it forward.
        self.clock = Clock()
        self.faults = Control()
        host = f"[{host}]" if ":" in host else host
        directory = None if data is None else Path(data)
        self._namesrv = NameServer(f"{host}:{namesrv_port}", self.faults, config.tls, directory)
        #: The brokers by name.
        self.brokers: dict[str, Broker] = {}
        for letter in string.ascii_lowercase[:brokers]:
            name = f"broker-{letter}"
            self.brokers[name] = Broker(name, f"{host}:0", config, self._namesrv, self.clock, self.faults, directory)

    @property
    def namesrv(self) -> str:
        """``host:port`` of the name server, for clients; the port is known once the cluster was started."""
        return self._namesrv.address

    @property
    def broker_names(self) -> tuple[str, ...]:
        """The names of all brokers, those that are stopped too."""
        return tuple(self.brokers)

    def start(self) -> None:
        """Start everything that does not run; takes milliseconds.

        :raises OSError: when an address cannot be listened on.
        """
        try:
            self.start_namesrv()
            for broker in self.brokers.values():
                for slave in broker.slaves:
                    slave.start()
                broker.start()
        except BaseException:
            self.stop()
            raise
        log.warning(
            "embedded RocketMQ cluster at %s: for development, tests and demos%s",
            self.namesrv,
            "" if self._in_directory else "; its data ends with this process",
        )

    def stop(self) -> None:
        """Stop everything; blocks until its greenlets and connections have ended.  Its data stays for another start."""
        for slave in [slave for broker in self.brokers.values() for slave in broker.slaves]:
            slave.stop()
        for broker in self.brokers.values():
            broker.stop()
        self.stop_namesrv()

    def __enter__(self) -> EmbeddedCluster:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def __repr__(self) -> str:
        running = [name for name, broker in self.brokers.items() if broker.running]
        return f"<EmbeddedCluster {self.namesrv}, running: {', '.join(running) or 'nothing'}>"

    def counts(self) -> ClusterCounts:
        """How much is in it; never blocks."""
        brokers = self.brokers.values()
        return ClusterCounts(
            len({topic for broker in brokers for topic in broker.topic_configs.keys() - broker.topics.own}),
            len({group for broker in brokers for group in broker.clients.consumers}),
            sum(broker.store.log.count for broker in brokers),
            sum(len(server.channels) for server in self.faults.servers(None)),
        )

    # -- parts of it ---------------------------------------------------------------------------------------------------------

    def broker_address(self, name: str) -> str:
        """``host:port`` of a broker, the same when it is stopped and started."""
        return self.brokers[name].address

    def start_broker(self, name: str) -> None:
        """Start a broker with the address and data it had."""
        self.brokers[name].start()

    def stop_broker(self, name: str, *, keep_data: bool = True) -> None:
        """Stop a broker: its connections are closed and it leaves the routes.  Its slaves, if it has some, go on.

        :param name: which one.
        :param keep_data: whether it has its topics, messages and offsets still when it is started again; its slaves lose with
            it what it loses.  One that is stopped already loses them too.
        """
        self.brokers[name].stop(keep_data=keep_data)

    def start_namesrv(self) -> None:
        """Start the name server with the address it had."""
        if not self._namesrv.server.running:
            self._namesrv.start()

    def stop_namesrv(self, *, keep_data: bool = True) -> None:
        """Stop the name server: clients keep the routes they have.

        :param keep_data: whether it has its routes and settings still when it is started again.  Otherwise it has none, and
            brokers are in the routes again with their next heartbeat or start: within 30 s, by the cluster's clock.
        """
        self._namesrv.stop(keep_data=keep_data)

    def create_topic(self, topic: str, queues: int = 4, *, perm: int = 6, brokers: Sequence[str] | None = None) -> None:
        """Create a topic; never blocks.

        :param topic: its name.
        :param queues: queues a broker, for reading and writing.
        :param perm: bits of :class:`~grocketmq.model.route.Permission`.
        :param brokers: names of the brokers to have it; None for all.
        """
        for name in self.broker_names if brokers is None else brokers:
            self.brokers[name].topics.put(TopicConfig(topic, queues, queues, perm))

    # -- faults --------------------------------------------------------------------------------------------------------------

    def control(
        self,
        code: int | None,
        action: Action,
        *,
        nth: int = 1,
        times: int | None = 1,
        at: str | None = None,
        matches: Callable[[RemotingCommand], bool] = lambda request: True,
    ) -> Fault:
        """Do something else with requests than serve them; never blocks.

        :param code: the requests' code; None for all.
        :param action: an action of :mod:`grocketmq.embedded.control`, or a function of one's own.
        :param nth: the first request to take, counted from 1 and from now on.
        :param times: how many to take; None for all further ones.
        :param at: ``"namesrv"`` or a broker's name; None for all of them.
        :param matches: a further condition.
        :returns: the fault, which counts; :meth:`release` takes it back.
        """
        return self.faults.add(Fault(code, action, nth, times, at, matches))

    def cut(self, at: str | None = None) -> None:
        """Reset all connections that are open now; bytes under way are lost, and new connections are taken.  Never blocks.

        :param at: ``"namesrv"`` or a broker's name; None for all of them.
        """
        for server in self.faults.servers(at):
            for channel in list(server.channels):
                channel.reset()

    def stall(self, at: str | None = None) -> None:
        """Read and send nothing more, but leave all connections open, as a machine does that hangs; never blocks.

        :param at: as in :meth:`cut`.
        """
        for server in self.faults.servers(at):
            server.line.flowing.clear()

    def resume(self, at: str | None = None) -> None:
        """Undo :meth:`stall`: what was held back goes on now; never blocks.

        :param at: as in :meth:`cut`.
        """
        for server in self.faults.servers(at):
            server.line.flowing.set()

    def split(self, piece_bytes: int | None, pause: float = 0.0, at: str | None = None) -> None:
        """Send what is sent from now on in small pieces, so that clients see each of them; never blocks.

        :param piece_bytes: bytes a piece at most, 1 and more; None to undo it.
        :param pause: seconds between pieces.
        :param at: as in :meth:`cut`.
        """
        if piece_bytes is not None and piece_bytes < 1:
            raise ConfigError(f"piece_bytes is {piece_bytes}; it must be 1 or more")
        for server in self.faults.servers(at):
            server.line.split(piece_bytes, pause)

    def release(self, fault: Fault | None = None) -> None:
        """Take a fault back; never blocks.

        :param fault: which one; None for all.
        """
        if fault is None:
            self.faults.clear()
        else:
            self.faults.remove(fault)
