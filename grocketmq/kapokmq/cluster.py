"""Sending to a cluster of KapokMQ servers, which the Serena registry lists."""

from __future__ import annotations

import logging
from typing import Any

import gevent

from grocketmq.errors import ConfigError, ConnectError, GRocketMQError
from grocketmq.kapokmq.config import ClusterProducerConfig, server_address
from grocketmq.kapokmq.http import HttpClient
from grocketmq.kapokmq.message import Node
from grocketmq.kapokmq.outbox import Outbox
from grocketmq.kapokmq.producer import SendingClient
from grocketmq.kapokmq.registry import REGISTRY_PATH, nodes_from
from grocketmq.kapokmq.session import Session
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.tasks import PeriodicTask

__all__ = ["ClusterProducer"]

log = logging.getLogger(__name__)

#: Seconds between looks at a registry that lists nothing, when the producer starts.
EMPTY_PAUSE = 0.25
#: Seconds between looks at whether each node was tried, likewise.
TRIED_PAUSE = 0.01
#: Seconds that the start waits for the other servers when it has logged in at one.
OTHERS_TIMEOUT = 1.0
#: Seconds for a request to the registry, or to a server for its view of the cluster.
REQUEST_TIMEOUT = 5.0


class ClusterProducer(SendingClient):
    """Sends messages of one topic to the servers of a cluster, each message to one that is drawn by chance.

    The servers know nothing of each other's messages: a consumer gets those of the server it is connected to.

    :param registry_addr: host name or address of the Serena registry.
    :param registry_port: its HTTP port.
    :param topic: not empty, without ``/``.
    :param producer_id: likewise; no other producer of this process may have it while this one runs.
    :param secret_key: the registry's and the servers'.
    :param options: see :class:`~grocketmq.kapokmq.config.ClusterProducerConfig`.
    :raises ConfigError: an option, the topic or the id cannot work.
    """

    def __init__(
        self, registry_addr: str, registry_port: int, topic: str, producer_id: str, secret_key: str, **options: Any
    ) -> None:
        config = ClusterProducerConfig(**options)
        super().__init__(topic, producer_id, secret_key, config)
        self._cluster_config = config
        self._timeout = min(REQUEST_TIMEOUT, max(config.check_time, 0.5))
        self._registry = self._http(config.registry_protocol, registry_addr, registry_port)
        self._poll: PeriodicTask | None = None
        self._known: dict[Node, Session] = {}
        self._registry_failed = False

    def __repr__(self) -> str:
        return (
            f"<kapokmq.ClusterProducer {self.producer_id!r} of topic {self.topic!r}, registry {self._registry.address}, "
            f"{len(self._known)} nodes, {self.state.value}>"
        )

    @property
    def nodes(self) -> list[Node]:
        """The servers it knows, sorted; some may be down."""
        return sorted(self._known)

    @property
    def connected_nodes(self) -> list[Node]:
        """The servers it is logged in at, sorted."""
        return sorted(node for node, session in self._known.items() if session.connected)

    # -- what sessions tell; everything but this is the outbox's business ------------------------------------------------------

    def opened(self, session: Session) -> None:
        """A server can be sent to."""
        assert self._outbox is not None
        self._outbox.opened(session)

    def received(self, session: Session, text: str) -> None:
        """An acknowledgement came."""
        assert self._outbox is not None
        self._outbox.received(session, text)

    def lost(self, session: Session, cause: GRocketMQError) -> None:
        """A server cannot be sent to any more."""
        assert self._outbox is not None
        self._outbox.lost(session, cause)

    def gave_up(self, session: Session, cause: GRocketMQError) -> None:
        """A server refused the key; when all have, nothing can be sent."""
        assert self._outbox is not None
        if all(one.given_up for one in self._known.values()):
            self._outbox.end(cause)

    # -- start and stop ------------------------------------------------------------------------------------------------------

    def _open(self, deadline: Deadline, patient: bool) -> None:
        config = self._cluster_config
        self._outbox = Outbox(repr(self.producer_id), config.max_in_flight, config.retry)
        self._registry_failed = False
        while not self._look_first(deadline, patient):
            gevent.sleep(min(EMPTY_PAUSE, deadline.remaining()))
            if deadline.expired:
                raise ConnectError(f"the registry {self._registry.address} lists no node of the cluster")
        self._poll = self._tasks.periodic("look for nodes", config.check_time, self._look, first=config.check_time)
        self._wait_for_one(deadline, patient)

    def _look_first(self, deadline: Deadline, patient: bool) -> bool:
        """Ask the registry and connect to what it lists.

        :returns: whether it lists anything.
        """
        try:
            listed = nodes_from(self._registry.post(REGISTRY_PATH, timeout=deadline.remaining()), self._registry.address)
        except GRocketMQError as error:
            if not patient or not error.retriable or deadline.expired:
                raise
            return False
        self._take(listed)
        return bool(self._known)

    def _wait_for_one(self, deadline: Deadline, patient: bool) -> None:
        """One server that is not reached does not matter; none at all does."""
        assert self._outbox is not None
        while not deadline.expired and self._outbox.fatal is None:
            if self._outbox.usable.is_set():
                patient = False
                deadline = min(deadline, Deadline(OTHERS_TIMEOUT), key=lambda one: one.at)
            if not patient and all(session.tried for session in self._known.values()):
                break
            gevent.sleep(min(TRIED_PAUSE, deadline.remaining()))
        if not self._outbox.usable.is_set():
            errors = [session.error for session in self._known.values() if session.error is not None]
            raise errors[0] if errors else ConnectError(f"no node of the cluster answered in time: {self.nodes}")

    def _close_sessions(self, deadline: Deadline) -> None:
        if self._poll is not None and self._poll.greenlet is not None:
            self._poll.greenlet.kill()
        for session in list(self._known.values()):
            session.close(deadline)
        self._known.clear()

    # -- the cluster's members -----------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Every ``check_time``: take new servers in, and drop those that are neither listed nor up."""
        listed = self._listed()
        if not listed:
            return  # a registry that was restarted knows nobody at first
        self._take(listed)
        gone = [node for node, session in self._known.items() if node not in listed and not session.connected]
        for node in gone:
            self._known.pop(node).close(Deadline(0.0))

    def _listed(self) -> list[Node]:
        """What the registry lists; if it lists nothing or fails, what a server that is up knows; else nothing."""
        try:
            if listed := nodes_from(self._registry.post(REGISTRY_PATH), self._registry.address):
                self._registry_failed = False
                return listed
            failure: object = "it lists no node"
        except GRocketMQError as error:
            failure = error
        if not self._registry_failed:
            self._registry_failed = True
            log.warning("registry %s: %s; the nodes that are known stay in use", self._registry.address, failure)
        for node in self.connected_nodes[:1]:
            try:
                http = self._http("https" if self._cluster_config.protocol == "wss" else "http", node.addr, node.port)
                return nodes_from(http.post("/Console/GetNodes"), http.address)
            except GRocketMQError:
                return []  # the nodes that are known stay
        return []

    def _take(self, listed: list[Node]) -> None:
        for node in listed:
            if not any((node.addr, node.port) == (known.addr, known.port) for known in self._known):
                try:
                    session = self._session(self, server_address(node.addr, node.port))
                except ConfigError as error:
                    log.warning("registry %s lists %r: %s", self._registry.address, node, error)
                    continue
                self._known[node] = session
                session.start(self._tasks)

    def _http(self, protocol: str, addr: str, port: int) -> HttpClient:
        return HttpClient(protocol, addr, port, self._secret_key, self._timeout, self._cluster_config.ssl_context)
