"""One broker: its parts and its life.

================  ======================================================
part              what it serves
================  ======================================================
``topics``        creating and deleting topics
``clients``       heartbeats, groups, who is there
``offsets``       offsets of groups, questions about queues
``locks``         queue locks
``sends``         sends, batches, messages sent back
``pulls``         pulls, at once or when messages come
``pops``          pops, the same
``recalls``       taking timer messages back
``transactions``  ends of transactions; asks producers for them
``replies``       replies, pushed to who waits for them
``queries``       messages by their place, id or key
``admin``         what operators ask
``relay``         what operators ask of clients
``acks``          acknowledgements of what was popped
``shares``        sharing out queues, and whether a group pulls or pops
================  ======================================================
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from grocketmq.embedded.access import signed_only
from grocketmq.embedded.admin import AdminRequests
from grocketmq.embedded.assignment import Assignments
from grocketmq.embedded.clients import EXPIRY_SCAN_INTERVAL, ClientTable
from grocketmq.embedded.clock import Clock, Timer, Timers
from grocketmq.embedded.control import Control
from grocketmq.embedded.delay import DELAY_LEVELS, Intake
from grocketmq.embedded.journal import Journal, Saved, as_text
from grocketmq.embedded.locks import QueueLocks
from grocketmq.embedded.namesrv import HEARTBEAT_INTERVAL, NameServer
from grocketmq.embedded.offsets import OffsetTable
from grocketmq.embedded.pop import Pops
from grocketmq.embedded.pop_acks import PopAcks
from grocketmq.embedded.pop_check_points import CheckPoints
from grocketmq.embedded.pop_orders import Orders
from grocketmq.embedded.pull import Pulls
from grocketmq.embedded.query import Queries
from grocketmq.embedded.recall import Recalls
from grocketmq.embedded.relay import Relay
from grocketmq.embedded.replies import Replies
from grocketmq.embedded.send import Sends
from grocketmq.embedded.slave import Slave
from grocketmq.embedded.store import MessageStore
from grocketmq.embedded.table import Table
from grocketmq.embedded.topics import TopicTable
from grocketmq.embedded.transactions import Transactions
from grocketmq.model.message_id import UniqueIdGenerator
from grocketmq.model.route import MASTER_ID
from grocketmq.remoting.server import Channel, RemotingServer
from grocketmq.remoting.stream import split_address
from grocketmq.remoting.tls import ServerContext
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire import bodies
from grocketmq.wire.acl import Credentials
from grocketmq.wire.bodies import SubscriptionGroupConfig, TopicConfig

__all__ = ["Broker", "BrokerConfig"]

_PORT = "port"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BrokerConfig:
    """What can be set of brokers.

    :param cluster: the cluster's name.
    :param auto_create_topics: whether a send to an unknown topic creates it.
    :param delay_levels: seconds of the delay levels, from level 1 on.
    :param client_expiry: seconds without a heartbeat after which a client counts as gone.
    :param lock_expiry: seconds after which a queue lock that was not renewed is free.
    :param transaction_timeout: seconds a half message is left alone.
    :param transaction_check_interval: seconds from one round of transaction checks to the next.
    :param transaction_check_max: checks of one half message; then no consumer will get it.
    :param recall_messages: whether timer messages can be recalled, which brokers do not allow by default.
    :param max_bytes: how much messages may take; then the oldest are dropped.  None for no bound.
    :param tls: serve TLS only, with this ``ssl.SSLContext`` for servers; the name server too.  None for no TLS.
    :param credentials: the one account by which requests to brokers must be signed; None for no access control.
    :param property_filter: whether SQL92 filters are served; real brokers need ``enablePropertyFilter=true`` for it.
    :param retry_topic_v2: whether POP retry topics go by their newer names, as with ``enableRetryTopicV2=true``.
    :param slaves: how many slaves each broker has; they serve reads of what it has, also when it is stopped.  In a directory
        the offsets that they are told then are kept when it is started again, or the cluster is stopped.
    :param acting_masters: whether routes name a slave in the place of a master that is stopped, as with
        ``enableSlaveActingMaster=true`` and the name server's ``supportActingMaster=true``.
    """

    cluster: str = "DefaultCluster"
    auto_create_topics: bool = True
    delay_levels: Sequence[float] = DELAY_LEVELS
    client_expiry: float = 120.0
    lock_expiry: float = 60.0
    recall_messages: bool = False
    transaction_timeout: float = 6.0
    transaction_check_interval: float = 30.0
    transaction_check_max: int = 15
    max_bytes: int | None = None
    tls: ServerContext | None = None
    credentials: Credentials | None = None
    property_filter: bool = True
    retry_topic_v2: bool = False
    slaves: int = 0
    acting_masters: bool = False


class Broker:
    """A broker, a master of its own; stopped and started again it has its data still.

    :param name: its name.
    :param address: ``host:port`` to listen on, the host as a number; port 0 lets the system choose once.
    :param config: its settings.
    :param namesrv: where it registers.
    :param clock: its time.
    :param control: sees all requests first.
    :param data: the directory of its data; None to keep it in memory only.
    """

    def __init__(
        self,
        name: str,
        address: str,
        config: BrokerConfig,
        namesrv: NameServer,
        clock: Clock,
        control: Control,
        data: Path | None = None,
    ) -> None:
        self.name = name
        self.cluster = config.cluster
        self.acting_masters = config.acting_masters
        self._config = config
        self._namesrv = namesrv
        self._clock = clock
        self._tasks = TaskGroup(f"embedded {name}")
        self._timers = Timers(clock)
        self._next_scan: Timer | None = None
        self._next_heartbeat: Timer | None = None
        self._journal = None if data is None else Journal(data / f"{name}.sqlite")
        self.server = RemotingServer(address, {}, self._tasks, on_closed=self._closed, tls=config.tls)
        self._ip = ip_address(split_address(address)[0]).packed
        control.attach(name, self.server, self._tasks)
        host = address.rpartition(":")[0]
        #: They read what this broker has in memory, and go on when it is stopped.
        self.slaves = [
            Slave(
                f"{name}-slave-{number}",
                number,
                f"{host}:0",
                Timers(clock),
                control,
                config.tls,
                partial(namesrv.heartbeat, self),
            )
            for number in range(1, config.slaves + 1)
        ]
        self._build()

    def _build(self) -> None:
        """A broker without data."""
        config = self._config
        self._loaded = False
        self.meta: Table[str, int] = Table()
        self.topics = TopicTable(config.cluster, self.name, config.auto_create_topics, self._forget_topic)
        self.store = MessageStore((self._ip, 0), self._clock.now_ms, config.max_bytes)
        self.clients = self._new_clients()
        self.offsets = OffsetTable(self.store, self.topics, self.clients)
        self.locks = QueueLocks(self._clock, config.lock_expiry)
        self.intake = intake = Intake(self.store, self._timers, self._clock, config.delay_levels)
        unique_ids = UniqueIdGenerator(self._ip, os.getpid(), random.getrandbits(32))
        self.transactions = Transactions(
            self.name,
            config.transaction_timeout,
            config.transaction_check_interval,
            config.transaction_check_max,
            self.store,
            intake,
            self.topics,
            self.clients,
            self._timers,
            self._clock,
        )
        self.sends = Sends(
            *(self.name, config.cluster, self.store, intake, self.topics, self.clients, self.locks),
            unique_ids,
            self.transactions,
        )
        self.pulls = Pulls(self.store, self.topics, self.clients, self.offsets, self._timers)
        self.recalls = Recalls(self.name, config.recall_messages, intake, self.topics, self._clock)
        self._build_pop(intake)
        self.shares = Assignments(self.topics, self.clients, self._namesrv.route)
        self.store.on_arrival = self._arrived
        parts = (
            self.topics,
            self.clients,
            self.offsets,
            self.locks,
            self.sends,
            self.pulls,
            self.pops,
            self.acks,
            self.shares,
            self.recalls,
            self.transactions,
            Replies(self.store, intake, self.clients, self.sends.topic_of, self._tasks, self._clock.now_ms),
            Queries(self.store),
            AdminRequests(self.name, self.store, self.topics, self.clients, self.offsets, self._clock),
            Relay(self.name, self.store, self.topics, self.clients, self._tasks),
        )
        handlers = {code: handler for part in parts for code, handler in part.handlers().items()}
        if (account := config.credentials) is not None:
            handlers = {code: signed_only(handler, account) for code, handler in handlers.items()}
        self.server.handlers = handlers
        for slave in self.slaves:
            locks = QueueLocks(self._clock, config.lock_expiry)
            slave.serve(self.store, self.topics, self.offsets, self._new_clients(self.clients.group_configs), locks)

    def _new_clients(self, group_configs: Table[str, SubscriptionGroupConfig] | None = None) -> ClientTable:
        config = self._config
        return ClientTable(
            *(self.topics, self._clock, config.client_expiry),
            property_filter=config.property_filter,
            group_configs=group_configs,
        )

    @property
    def addresses(self) -> Mapping[int, str]:
        """By broker id: its own and its slaves', as far as they run."""
        slaves = {slave.broker_id: slave.server.address for slave in self.slaves if slave.server.running}
        return {MASTER_ID: self.address, **slaves} if self.running else slaves

    def _build_pop(self, intake: Intake) -> None:
        #: What was popped and is not acknowledged.
        v2 = self._config.retry_topic_v2
        self.check_points = CheckPoints(self.store, intake, self.topics, self.offsets, self._timers, self._clock, v2)
        #: The same of queues that are popped in order.
        self.orders = Orders(self._clock)
        out = (self.check_points, self.orders)
        self.pops = Pops(self.name, self.store, self.topics, self.clients, self.offsets, *out, self._timers, self._clock)
        self.acks = PopAcks(self.store, self.topics, self.offsets, *out, self._clock, self.pops.waiting.happened)

    @property
    def address(self) -> str:
        """``host:port``; the port is known once it was started."""
        return self.server.address

    @property
    def topic_configs(self) -> Mapping[str, TopicConfig]:
        """Its topics."""
        return self.topics.configs

    @property
    def running(self) -> bool:
        """Whether it serves."""
        return self.server.running

    def start(self) -> None:
        """Listen and register; does nothing when it runs."""
        if self.running:
            return
        if self._journal is not None:
            self._load(self._journal)
        self._listen()
        self.store.store_host = (self._ip, self._port)
        if self._journal is not None:
            self.meta[_PORT] = self._port
            self._hold_back(self._journal.hold_back)
            self._tasks.loop("journal", self._journal.loop)
        self._tasks.loop("timers", self._timers.loop)
        self._tasks.loop("pulls that wait", self.pulls.waiting.loop)
        self._tasks.loop("pops that wait", self.pops.waiting.loop)
        self._scan()
        self.transactions.start()
        self._namesrv.register(self)
        self._next_heartbeat = self._timers.after(HEARTBEAT_INTERVAL, self._heartbeat)

    def stop(self, *, keep_data: bool = True) -> None:
        """End everything; blocks until its greenlets have ended.

        :param keep_data: whether topics, messages and offsets are there when it is started again.
        """
        self.server.stop()
        if not self.addresses:
            self._namesrv.unregister(self)
        self._hold_back(None)
        self._tasks.kill()
        for timer in (self._next_scan, self._next_heartbeat):
            if timer is not None:
                timer.cancel()
        self.transactions.stop()
        self.clients.forget_all()
        if self._journal is not None:
            self._journal.close(keep=keep_data)
        if not keep_data or (self._journal is not None and not self.slaves):
            self._timers.clear()
            self._build()

    def _hold_back(self, hold_back: Callable[[Callable[[bool], object]], bool] | None) -> None:
        """Whether answers wait until what they tell of is on disk."""
        for server in (self.server, *(slave.server for slave in self.slaves)):
            server.hold_back = hold_back

    def _listen(self) -> None:
        """Listen where it did before, if it can: messages' ids hold the broker's address."""
        before = 0 if self._port else self.meta.get(_PORT, 0)
        if before:
            self.server.use_port(before)
        try:
            self.server.start()
        except OSError as error:
            if not before:
                raise
            log.warning("%s cannot have its port %d again, so ids it gave before name another: %s", self.name, before, error)
            self.server.use_port(0)
            self.server.start()

    @property
    def _port(self) -> int:
        return split_address(self.address)[1]

    def _load(self, journal: Journal) -> None:
        """Take in what the journal has unless it is in memory still, and have it follow."""
        journal.open()
        if self._loaded:
            return
        self._loaded = True
        journal.restore(
            {
                "topic": Saved(self.topics.configs, *as_text(bodies.TOPIC_CONFIG)),
                "group": Saved(self.clients.group_configs, *as_text(bodies.GROUP_CONFIG)),
                "mode": Saved(self.shares.modes, *as_text(bodies.REQUEST_MODE)),
                "offset": Saved(self.offsets.offsets),
                "reset": Saved(self.offsets.resets),
                "end": Saved(self.store.ends),
                "delivered": Saved(self.intake.delivered),
                "popped": Saved(self.check_points.popped, sorted, set),
                "half": Saved(self.transactions.pending),
                "ended": Saved(self.transactions.ended),
                "broker": Saved(self.meta),
            }
        )
        self.store.load(journal)
        self.intake.load()
        self.check_points.load()
        self.transactions.load()

    def _scan(self) -> None:
        self.clients.expire()
        self._next_scan = self._timers.after(EXPIRY_SCAN_INTERVAL, self._scan)

    def _heartbeat(self) -> None:
        self._namesrv.heartbeat(self)
        self._next_heartbeat = self._timers.after(HEARTBEAT_INTERVAL, self._heartbeat)

    def _closed(self, channel: Channel) -> None:
        self.clients.closed(channel)
        self.pulls.waiting.closed(channel)
        self.pops.waiting.closed(channel)

    def _arrived(self, key: tuple[str, int]) -> None:
        """A message was stored: topic, queue id."""
        for slave in self.slaves:
            slave.pulls.waiting.happened(key)
        self.pulls.waiting.happened(key)
        self.pops.waiting.happened(key[0])

    def _forget_topic(self, topic: str) -> None:
        self.store.forget_topic(topic)
        self.offsets.forget_topic(topic)
        self.check_points.forget_topic(topic)
        self.orders.forget_topic(topic)
