"""A slave of a broker: another address that serves reads of the same messages.

Source: Apache RocketMQ 5.5.0, module broker, class ``BrokerController``; module store, class ``DefaultMessageStore``.
"""

from __future__ import annotations

from collections.abc import Callable

from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded.clients import EXPIRY_SCAN_INTERVAL, ClientTable
from grocketmq.embedded.clock import Timer, Timers
from grocketmq.embedded.control import Control
from grocketmq.embedded.locks import QueueLocks
from grocketmq.embedded.namesrv import HEARTBEAT_INTERVAL
from grocketmq.embedded.offsets import OffsetTable
from grocketmq.embedded.pull import Pulls
from grocketmq.embedded.query import Queries
from grocketmq.embedded.store import MessageStore
from grocketmq.embedded.topics import TopicTable
from grocketmq.remoting.server import Channel, Refused, RemotingServer
from grocketmq.remoting.tls import ServerContext
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire.command import RemotingCommand

__all__ = ["Slave"]

_WRITES = (
    RequestCode.SEND_MESSAGE,
    RequestCode.SEND_MESSAGE_V2,
    RequestCode.SEND_BATCH_MESSAGE,
    RequestCode.CONSUMER_SEND_MSG_BACK,
)


class Slave:
    """One slave; it has what its master has, without any delay, and goes on when the master is stopped.

    :param name: such as ``broker-a-slave-1``.
    :param broker_id: its id in the routes, from 1 on.
    :param address: ``host:port`` to listen on.
    :param timers: run what is due.
    :param control: sees all requests first.
    :param tls: serve TLS only, with this context; None for no TLS.
    :param heartbeat: tells the name server of the broker and its slaves again.
    """

    def __init__(
        self,
        name: str,
        broker_id: int,
        address: str,
        timers: Timers,
        control: Control,
        tls: ServerContext | None,
        heartbeat: Callable[[], object],
    ) -> None:
        self.name = name
        self.broker_id = broker_id
        self._tasks = TaskGroup(f"embedded {name}")
        self._timers = timers
        self._tell_name_server = heartbeat
        self._next_scan: Timer | None = None
        self._next_heartbeat: Timer | None = None
        self.clients: ClientTable
        self.pulls: Pulls
        self.server = RemotingServer(address, {}, self._tasks, on_closed=self._closed, tls=tls)
        control.attach(name, self.server, self._tasks)

    def serve(
        self, store: MessageStore, topics: TopicTable, offsets: OffsetTable, clients: ClientTable, locks: QueueLocks
    ) -> None:
        """Read from these from now on.  One that runs is stopped and started: its clients wait for what is gone.

        :param clients: its own groups: consumers tell slaves of themselves too.
        :param locks: its own locks, asked for while it stands in for its master.
        """
        running = self.server.running
        if running:
            self.stop()
        self.clients = clients
        self.pulls = Pulls(store, topics, clients, offsets, self._timers)
        parts = (clients, offsets, locks, self.pulls, Queries(store))
        handlers = {code: handler for part in parts for code, handler in part.handlers().items()}
        self.server.handlers = {**handlers, **dict.fromkeys(_WRITES, _refuse)}
        if running:
            self.start()

    def start(self) -> None:
        """Listen; does nothing when it runs."""
        if not self.server.running:
            self.server.start()
            self._tasks.loop("timers", self._timers.loop)
            self._tasks.loop("pulls that wait", self.pulls.waiting.loop)
            self._scan()
            self._heartbeat()

    def stop(self) -> None:
        """End everything; blocks until its greenlets have ended."""
        self.server.stop()
        self._tasks.kill()
        for timer in (self._next_scan, self._next_heartbeat):
            if timer is not None:
                timer.cancel()
        self.clients.forget_all()

    def _scan(self) -> None:
        self.clients.expire()
        self._next_scan = self._timers.after(EXPIRY_SCAN_INTERVAL, self._scan)

    def _heartbeat(self) -> None:
        self._tell_name_server()
        self._next_heartbeat = self._timers.after(HEARTBEAT_INTERVAL, self._heartbeat)

    def _closed(self, channel: Channel) -> None:
        self.clients.closed(channel)
        self.pulls.waiting.closed(channel)


def _refuse(request: RemotingCommand, channel: Channel) -> RemotingCommand:
    raise Refused(ResponseCode.SERVICE_NOT_AVAILABLE, "service not available now: a slave takes no messages")
