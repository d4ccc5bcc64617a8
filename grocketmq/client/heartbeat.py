"""What brokers are told, again and again, of the groups that live in an instance, and what they are known to know of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import gevent
from gevent.event import Event

from grocketmq.client.api import ClientAPI
from grocketmq.client.members import ConsumerMember, ProducerMember
from grocketmq.client.routes import RouteTable
from grocketmq.errors import GRocketMQError
from grocketmq.model.route import MASTER_ID
from grocketmq.remoting.client import RemotingClient
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.runtime.turns import in_small_turns
from grocketmq.wire.bodies import HEARTBEAT, HeartbeatData, ProducerData

__all__ = ["Heartbeats", "heartbeat_body"]

log = logging.getLogger(__name__)

#: Seconds for telling all brokers something.
TELL_TIMEOUT = 3.0
#: Seconds a request waits at most for brokers to know its client.
INTRODUCE_TIMEOUT = 1.0


def heartbeat_body(client_id: str, producers: Sequence[ProducerMember], consumers: Sequence[ConsumerMember]) -> bytes | None:
    """Encode a heartbeat; never blocks.

    A client that only produces must send heartbeats too: transaction checks and replies find it that way.

    :param client_id: the instance's.
    :param producers: its producers; a group may have several.
    :param consumers: its consumers.
    :returns: the body, None when there is nobody to tell of.
    """
    groups = sorted({producer.group for producer in producers})
    if not groups and not consumers:
        return None
    data = HeartbeatData(
        client_id,
        tuple(ProducerData(group) for group in groups),
        tuple(consumer.heartbeat_data() for consumer in consumers),
    )
    return HEARTBEAT.encode(data)


class Heartbeats:
    """The heartbeats of an instance.

    :param client_id: the instance's.
    :param api: makes the calls.
    :param remoting: has the connections to the brokers.
    :param routes: tells which brokers there are.
    :param tasks: owns the greenlets, one a broker.
    :param producers: the instance's, as they come and go.
    :param consumers: likewise, by group.
    """

    def __init__(
        self,
        client_id: str,
        api: ClientAPI,
        remoting: RemotingClient,
        routes: RouteTable,
        tasks: TaskGroup,
        producers: Sequence[ProducerMember],
        consumers: Mapping[str, ConsumerMember],
    ) -> None:
        self.api = api
        #: Address -> ``MQVersion`` ordinal, from its last answer.
        self.versions: dict[str, int] = {}
        self._client_id = client_id
        self._remoting = remoting
        self._routes = routes
        self._tasks = tasks
        self._producers = producers
        self._consumers = consumers
        #: Address -> the connection over which its broker was told of the producers here.
        self._introduced: dict[str, object] = {}
        #: Brokers that have forgotten this client, since one of its producer groups left.
        self._forgotten: set[str] = set()
        self._introducing: Event | None = None
        #: Brokers whose last heartbeat failed.
        self._silent: set[str] = set()

    def send(self) -> None:
        """Tell all brokers which groups live here; blocks until each has answered or failed, 3 s at most."""
        body = self._body()
        if body is not None:
            self._at_brokers("heartbeat", lambda address: self._send_one(address, body))

    def version(self, address: str, seconds: float) -> int:
        """Send one broker a heartbeat, even of nobody, for its ``MQVersion`` ordinal; blocks at most so many seconds.

        :raises RemotingError: when it does not answer.
        """
        version = self.versions[address] = self.api.heartbeat(address, self._body() or b"{}", seconds)
        return version

    def drop(self, address: str) -> None:
        """Forget a broker; never blocks."""
        self.versions.pop(address, None)
        self._silent.discard(address)
        self._introduced.pop(address, None)
        self._forgotten.discard(address)

    def unregister(self, **group: str) -> None:
        """Tell all brokers that a group has left; blocks at most 3 s, errors are logged.

        :param group: ``producer_group`` or ``consumer_group``.
        """

        def tell(address: str) -> None:
            try:
                self.api.unregister(address, self._client_id, **group)
            except GRocketMQError as error:
                log.warning("%s was not told that group %s leaves, and will notice: %s", address, *group.values(), error)

        self._at_brokers("unregister", tell)

    # -- for replies, which find a client by its id --------------------------------------------------------------------------

    def introduce(self, deadline: Deadline) -> None:
        """Have the brokers know this client that do not, such as after a new connection, so that replies find it.

        Mostly there is none, and it does not block; else at most a second.  A broker whose last heartbeat failed is left to the
        heartbeats to come.
        """
        if self._introducing is not None:
            self._introducing.wait(min(INTRODUCE_TIMEOUT, deadline.remaining()))
        elif self._producers and (strangers := [address for address in self._masters() if self._is_stranger(address)]):
            self._introducing = Event()
            try:
                body = self._body()
                calls = [self._tasks.spawn(f"heartbeat {address}", self._introduce_at, address, body) for address in strangers]
                gevent.joinall(calls, timeout=min(INTRODUCE_TIMEOUT, deadline.remaining()))
            finally:
                self._introducing.set()
                self._introducing = None

    def first_producer(self) -> None:
        """There were no producers, and now there is one: no broker knows of it.  Never blocks."""
        self._introduced.clear()

    def producer_group_left(self) -> None:
        """Brokers were told that a group left, and have forgotten the client for the others with it; never blocks."""
        self._forgotten.update(self._introduced)
        self._introduced.clear()

    def _is_stranger(self, address: str) -> bool:
        connection = self._remoting.connection(address)
        return address not in self._silent and (connection is None or self._introduced.get(address) is not connection)

    def _introduce_at(self, address: str, body: bytes) -> None:
        if address in self._forgotten and self._producers:
            # The broker knows the connection of this group, and would not note the client's id once more.
            try:
                self.api.unregister(address, self._client_id, producer_group=self._producers[0].group)
            except GRocketMQError:
                return  # the next request tries again
            self._forgotten.discard(address)
        self._send_one(address, body)

    # -- how brokers are told ------------------------------------------------------------------------------------------------

    def _body(self) -> bytes | None:
        return heartbeat_body(self._client_id, self._producers, list(self._consumers.values()))

    def _send_one(self, address: str, body: bytes) -> None:
        try:
            self.versions[address] = self.api.heartbeat(address, body)
            if address not in self._forgotten:
                self._introduced[address] = self._remoting.connection(address)
            self._silent.discard(address)
        except GRocketMQError as error:
            if address not in self._silent:
                self._silent.add(address)
                log.warning("heartbeat to %s failed, next try with the next round: %s", address, error)

    def _masters(self) -> set[str]:
        return {address for _, one, address in self._routes.members() if one == MASTER_ID}

    def _at_brokers(self, what: str, call: Callable[[str], None]) -> None:
        """Make a call at every broker at the same time; slaves count only when there is a consumer."""
        addresses = {address for _, one, address in self._routes.members() if one == MASTER_ID or self._consumers}
        # To begin a call may take opening a connection, so few of many begin in a turn of the event loop.
        calls = [self._tasks.spawn(f"{what} {address}", call, address) for address in in_small_turns(addresses)]
        gevent.joinall(calls, timeout=TELL_TIMEOUT)
