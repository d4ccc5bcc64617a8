"""``ClientInstance``: what clients with the same settings share.

One connection a broker, one route table, one heartbeat and one set of scheduled tasks, under one client id.

===============  ========================  =========================================================================
task             interval                  what it does
===============  ========================  =========================================================================
update routes    ``route_poll_interval``   fetches the routes of all topics in use; often while a consumer has none
heartbeat        ``heartbeat_interval``    drops brokers that no route names, tells the others which groups live here
rebalance        20 s, 1 s, or when woken  lets every consumer take its share of the queues
update name      120 s                     asks the address server for the name servers, if there is one
servers
persist offsets  ``persist_offset_...``    lets every consumer store its offsets
===============  ========================  =========================================================================

Source of the intervals: Apache RocketMQ 5.3.3, module client, classes ``MQClientInstance``, ``RebalanceService``.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from time import time_ns

from gevent.event import AsyncResult

from grocketmq.client.api import ROUTE_TIMEOUT, ClientAPI
from grocketmq.client.config import ClientConfig
from grocketmq.client.heartbeat import INTRODUCE_TIMEOUT, Heartbeats
from grocketmq.client.members import ConsumerMember, ProducerMember, TransactionChecker
from grocketmq.client.namespace import Namespace
from grocketmq.client.namesrv import AddressServer, NameServers
from grocketmq.client.processor import BrokerRequests
from grocketmq.client.replies import ReplyTable
from grocketmq.client.routes import RouteTable, derived_route
from grocketmq.errors import ClientStateError, ConfigError, GRocketMQError, RequestTimeout, RouteNotFoundError
from grocketmq.model.addresses import client_id, vip_address
from grocketmq.model.message_id import UniqueIdGenerator
from grocketmq.model.namespace import DEFAULT_TOPIC, is_retry_topic
from grocketmq.model.route import MessageQueue, TopicPublishInfo, TopicRouteData
from grocketmq.remoting.client import RemotingClient
from grocketmq.remoting.stream import local_ip
from grocketmq.remoting.tls import tls_connector
from grocketmq.runtime.deadline import Backoff, Deadline
from grocketmq.runtime.lag import HubLag
from grocketmq.runtime.tasks import FAILURES, PeriodicTask, TaskGroup

__all__ = ["ClientInstance"]

log = logging.getLogger(__name__)

REBALANCE_INTERVAL = 20.0
#: Seconds until the next try while some consumer has not got its share, and the least time between two rounds.
REBALANCE_SOON = 1.0
FIRST_HEARTBEAT = 1.0
NAMESRV_FETCH_INTERVAL = 120.0
#: Seconds after which a route that changed is looked at again: brokers tell of a new topic one after the other.
ROUTE_AGAIN = 1.0
FIRST_PERSIST = 10.0


class ClientInstance:
    """The shared part of clients with equal settings.  Made by :class:`~grocketmq.client.manager.MQClientManager`.

    :param config: the settings.
    """

    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        #: Clients that use it; the manager counts.
        self.users = 0
        url = config.address_server
        self._address_server = url and AddressServer(url, config.unit_name, config.connect_timeout, config.tls_config)
        addresses = self._address_server.fetch() if self._address_server else config.namesrv_addresses
        ip = local_ip(addresses[0])
        name = "#".join(filter(None, (config.instance_name, f"{os.getpid()}#{time_ns()}")))
        #: The name under which brokers know this instance.
        self.client_id = config.client_id or client_id(str(ip), name, config.unit_name)
        #: A name that is the same after a restart, for what is kept in files.
        self.stable_id = config.client_id or client_id(str(ip), config.instance_name or "DEFAULT", config.unit_name)
        #: None for none.
        self.namespace: Namespace | None = None
        if config.namespace or config.namespace_v2:
            self.namespace = Namespace(config.namespace, config.namespace_v2)
            self.stable_id += f"@{config.namespace or config.namespace_v2}"
        self.tasks = TaskGroup(self.client_id)
        self.remoting = RemotingClient(
            self.tasks,
            connect_timeout=config.connect_timeout,
            open_stream=None if config.tls_config is None else tls_connector(config.tls_config),
            max_frame_bytes=config.max_frame_size,
            serialize_type=config.serialize_type,
            hooks=config.hooks,
            credentials=config.credentials,
            translator=self.namespace,
        )
        self.namesrv = NameServers(self.remoting, addresses)
        self.api = ClientAPI(self.remoting, self.namesrv, self.namespace)
        self.routes = RouteTable()
        self.unique_ids = UniqueIdGenerator(ip.packed, os.getpid(), random.getrandbits(32))
        self._producers: list[ProducerMember] = []
        self._consumers: dict[str, ConsumerMember] = {}
        self._checkers: dict[str, TransactionChecker] = {}
        #: Requests of all its producers that wait for a reply.
        self.replies = ReplyTable()
        self.heartbeats = Heartbeats(
            self.client_id, self.api, self.remoting, self.routes, self.tasks, self._producers, self._consumers
        )
        self._fetching: dict[str, AsyncResult] = {}
        self._route_backoff = Backoff(1.0, config.route_poll_interval)
        self._routeless: set[str] = set()
        self._changed_routes: set[str] = set()
        self._unused: set[str] = set()
        BrokerRequests(self.remoting, self, self.namespace)
        self._schedule()
        # Last, for it goes on by itself: an instance that could not be made leaves none behind.
        self.lag = HubLag()

    def _schedule(self) -> None:
        config = self.config
        periodic = self.tasks.periodic
        self._route_task: PeriodicTask = periodic("update routes", config.route_poll_interval, self._update_routes)
        self._heartbeat_task: PeriodicTask = periodic("heartbeat", config.heartbeat_interval, self._heartbeat, FIRST_HEARTBEAT)
        self._rebalance_task: PeriodicTask = periodic("rebalance", REBALANCE_INTERVAL, self._rebalance, REBALANCE_INTERVAL)
        self._rebalance_task.least_gap = REBALANCE_SOON
        if server := self._address_server:
            refresh = partial(self.namesrv.refresh, server)
            periodic("update name servers", NAMESRV_FETCH_INTERVAL, refresh, NAMESRV_FETCH_INTERVAL)
        periodic("persist offsets", config.persist_offset_interval, self._persist_offsets, FIRST_PERSIST)

    def __repr__(self) -> str:
        return f"<ClientInstance {self.client_id} of {', '.join(self.config.namesrv_addresses)}>"

    def members(self) -> list[str]:
        """Who shares it, for :meth:`~grocketmq.client.base.BaseClient.debug_dump`."""
        return [repr(one) for one in [*self._producers, *self._consumers.values()]]

    # -- members -------------------------------------------------------------------------------------------------------------

    def register_producer(self, producer: ProducerMember) -> None:
        """Take a producer in; never blocks."""
        if not self._producers:
            self.heartbeats.first_producer()
        self._producers.append(producer)
        self._heartbeat_task.wake()

    def register_consumer(self, consumer: ConsumerMember) -> None:
        """Take a consumer in; never blocks.

        :raises ConfigError: when this instance has a consumer of the group already.
        """
        if consumer.group in self._consumers:
            raise ConfigError(
                f"group {consumer.group!r} has a consumer in instance {self.client_id} already; "
                "give the second one its own instance_name"
            )
        self._consumers[consumer.group] = consumer

    def unregister_producer(self, producer: ProducerMember) -> None:
        """Let a producer go and tell the brokers; blocks at most 3 s, errors are ignored."""
        if producer not in self._producers:
            return
        self._producers.remove(producer)
        if all(one.group != producer.group for one in self._producers):
            self.heartbeats.unregister(producer_group=producer.group)
            if self._producers:
                self.heartbeats.producer_group_left()
                if self.replies:
                    self.heartbeats.introduce(Deadline(INTRODUCE_TIMEOUT))

    def unregister_consumer(self, consumer: ConsumerMember) -> None:
        """Let a consumer go and tell the brokers, so that the others of its group take its queues; blocks at most 3 s."""
        if self._consumers.get(consumer.group) is consumer:
            del self._consumers[consumer.group]
            self.heartbeats.unregister(consumer_group=consumer.group)

    def set_transaction_checker(self, group: str, checker: TransactionChecker) -> None:
        """Say what answers transaction checks of a producer group.

        :raises ConfigError: when something does already.
        """
        if group in self._checkers:
            raise ConfigError(
                f"group {group!r} has a transactional producer in instance {self.client_id} already; "
                "share that one, or give the second one its own instance_name"
            )
        self._checkers[group] = checker

    def drop_transaction_checker(self, group: str, checker: TransactionChecker) -> None:
        """Answer no transaction checks with this any more."""
        if self._checkers.get(group) == checker:
            del self._checkers[group]

    def transaction_checker(self, group: str) -> TransactionChecker | None:
        """What answers transaction checks of a producer group; None if nothing does."""
        return self._checkers.get(group)

    def consumer(self, group: str) -> ConsumerMember | None:
        """The consumer of a group, None if there is none here."""
        return self._consumers.get(group)

    def shutdown(self, timeout: float = 1.0) -> None:
        """End all tasks and connections; blocks for about ``timeout`` seconds at most.  The last member calls it, once: what is
        broken off (by a kill, by a ``gevent.Timeout``) waits for nothing more and ends them all the same."""
        self.tasks.stop_periodic()
        self.lag.close()
        try:
            self.remoting.close(timeout)
            self.tasks.join(timeout)
        finally:
            self.tasks.kill()

    # -- routes --------------------------------------------------------------------------------------------------------------

    def publish_info(self, topic: str, default_queues: int, deadline: Deadline) -> TopicPublishInfo:
        """Where to send a topic's messages; blocks only while the route must be fetched.

        A topic that no name server knows gets the route of the default topic: a broker creates it with the first message, where
        it is allowed to.

        :param topic: the topic's name.
        :param default_queues: how many queues a topic created that way asks for.
        :param deadline: when to give up.
        :raises RouteNotFoundError: when there is no queue to send to.
        :raises RemotingError: when no name server answers.
        """
        info = self.routes.publish.get(topic)
        if info is not None and info.queues:
            return info
        try:
            self.refresh_route(topic, deadline.check(f"find the route of {topic}"))
        except RouteNotFoundError:
            self._derive_route(topic, default_queues, deadline.check(f"find the route of {DEFAULT_TOPIC}"))
        info = self.routes.publish.get(topic)
        if info is None or not info.queues:
            raise RouteNotFoundError(
                topic, "none of its queues can be written to; check its permissions and its brokers' masters"
            )
        return info

    def _derive_route(self, topic: str, default_queues: int, timeout: float) -> None:
        try:
            route = self.api.topic_route(DEFAULT_TOPIC, timeout)
        except RouteNotFoundError as error:
            raise RouteNotFoundError(topic) from error
        self._take_over(topic, derived_route(route, default_queues))

    def subscribe_queues(self, topic: str, timeout: float = ROUTE_TIMEOUT) -> tuple[MessageQueue, ...]:
        """All queues a topic's consumers may pull from, sorted; blocks only while the route must be fetched.

        :raises RouteNotFoundError: when no name server knows the topic.
        """
        if not self.routes.subscribe.get(topic):
            self.refresh_route(topic, timeout)
        return self.routes.subscribe.get(topic, ())

    def refresh_route(self, topic: str, timeout: float = ROUTE_TIMEOUT) -> bool:
        """Fetch a topic's route; blocks at most ``timeout`` seconds.  Several callers share one fetch.

        :returns: whether the route changed.
        :raises RouteNotFoundError: when no name server knows the topic; what was known before is kept.
        :raises RemotingError: when no name server answers.
        """
        deadline = Deadline(timeout)
        while (under_way := self._fetching.get(topic)) is not None:
            under_way.wait(deadline.check(f"fetch the route of {topic}"))
            if under_way.ready() and under_way.get() is not None:  # or raises what the fetch met
                return False
        fetch = self._fetching[topic] = AsyncResult()
        try:
            changed = self._take_over(topic, self.api.topic_route(topic, deadline.check(f"fetch the route of {topic}")))
            fetch.set(changed)
            return changed
        except RequestTimeout:
            raise  # of this caller's time: who waits may have more
        except GRocketMQError as error:
            fetch.set_exception(error)
            raise
        finally:
            del self._fetching[topic]
            if not fetch.ready():
                fetch.set(None)  # broken off by a kill or for want of time: who waits has to fetch

    def _take_over(self, topic: str, route: TopicRouteData) -> bool:
        known = {address for _, _, address in self.routes.members()}
        changed = self.routes.update(topic, route)
        if changed:
            self._changed_routes.add(topic)
            log.info(
                "route of %s changed: %s", topic, [(data.broker_name, data.write_queue_nums) for data in route.queue_datas]
            )
            if any(topic in consumer.topics() for consumer in self._consumers.values()):
                self.rebalance_soon()
        if any(address not in known for _, _, address in self.routes.members()):
            self._heartbeat_task.wake()
        return changed

    def find_routes(self, topics: Iterable[str]) -> None:
        """Fetch routes that a consumer needs, one after the other; blocks at most 3 s each.  One that is missing is looked
        for in the background until it is there.

        :param topics: the topics' names.
        """
        for topic in topics:
            try:
                self.refresh_route(topic)
            except GRocketMQError as error:  # a retry topic comes into being with the first message that fails
                log.log(logging.DEBUG if is_retry_topic(topic) else logging.WARNING, "topic %s is awaited: %s", topic, error)
        self.refresh_routes_soon()

    def refresh_routes_soon(self) -> None:
        """Fetch all routes in use in the background; never blocks."""
        self._route_task.wake()

    def master_address(self, queue: MessageQueue, deadline: Deadline) -> str:
        """The address of a queue's master, its route fetched if need be; blocks at most until the deadline.

        :raises RouteNotFoundError: when its broker has no master now.
        """
        address = self.routes.master(queue.broker_name)
        if address is None:
            self.refresh_route(queue.topic, deadline.check(f"find broker {queue.broker_name}"))
            address = self.routes.master(queue.broker_name)
            if address is None:
                raise RouteNotFoundError(queue.topic, f"broker {queue.broker_name} has no master at present")
        return address

    def send_address(self, queue: MessageQueue, deadline: Deadline) -> str:
        """Where to send a queue's messages: its master, at the second port with ``vip_channel``; blocks as
        :meth:`master_address`."""
        address = self.routes.master(queue.broker_name) or self.master_address(queue, deadline)
        return vip_address(address) if self.config.vip_channel else address

    def _update_routes(self) -> float | None:
        """Fetch every route in use and forget the others; come back soon while a consumer waits for one, or for all of one."""
        missing, changed = set(), self._changed_routes
        self._changed_routes = set()
        self._forget_routes()
        for topic in sorted(self._topics()):
            try:
                self.refresh_route(topic)
            except RouteNotFoundError:
                missing.add(topic)
            except ClientStateError:  # the last client leaves at this moment
                return None
            except GRocketMQError as error:
                if self._route_task.stopping:  # its connection was closed by this client
                    return None
                if topic not in self.routes.routes:
                    missing.add(topic)
                log.warning("route of %s not fetched, what is known stays: %s", topic, error)
        consumed = {topic for consumer in self._consumers.values() for topic in consumer.topics()}
        missing &= consumed
        if missing != self._routeless:
            self._routeless = missing
            self._route_backoff.reset()
        if missing:
            return self._route_backoff.next()
        return ROUTE_AGAIN if consumed & (changed | self._changed_routes) else None

    def _forget_routes(self) -> None:
        """Forget the routes that no member has used since the last round."""
        unused = self.routes.routes.keys() - self._topics()
        for topic in unused & self._unused:
            self.routes.forget(topic)
        self._unused = unused

    def _topics(self) -> set[str]:
        members: Iterator[ProducerMember | ConsumerMember] = iter([*self._producers, *self._consumers.values()])
        return {topic for member in members for topic in member.topics()}

    # -- heartbeats ----------------------------------------------------------------------------------------------------------

    def heartbeat_now(self) -> None:
        """Tell all brokers which groups live here; blocks until each has answered or failed, 3 s at most."""
        self.heartbeats.send()

    def heartbeat_soon(self) -> None:
        """Send heartbeats in the background; never blocks."""
        self._heartbeat_task.wake()

    def broker_version(self, queue: MessageQueue, deadline: Deadline) -> int:
        """The ``MQVersion`` ordinal of a queue's broker; blocks only for a broker that no heartbeat has reached yet.

        :raises RemotingError: when that broker does not answer.
        """
        address = self.master_address(queue, deadline)
        version = self.heartbeats.versions.get(address)
        if version is None:
            version = self.heartbeats.version(address, deadline.check(f"ask {queue.broker_name} for its version"))
        return version

    def _heartbeat(self) -> None:
        for address in self.routes.drop_offline():
            log.info("broker %s is in no route any more; its connection is closed", address)
            self.remoting.forget(address)
            if self.config.vip_channel:
                self.remoting.forget(vip_address(address))
            self.heartbeats.drop(address)
        self.heartbeats.send()

    # -- consumers' tasks ----------------------------------------------------------------------------------------------------

    def rebalance_soon(self) -> None:
        """Let every consumer take its share as soon as possible; never blocks."""
        self._rebalance_task.wake()

    def _rebalance(self) -> float | None:
        balanced = self._at_consumers("rebalance", lambda consumer: consumer.rebalance())
        return None if balanced else REBALANCE_SOON

    def _persist_offsets(self) -> None:
        self._at_consumers("persist offsets", lambda consumer: consumer.persist_offsets())

    def _at_consumers(self, what: str, call: Callable[[ConsumerMember], bool | None]) -> bool:
        """Make a call at every consumer, one after the other; whether none answered False or failed."""
        well = True
        for consumer in list(self._consumers.values()):
            if self._consumers.get(consumer.group) is consumer:  # else it has left while another one was called
                try:
                    well &= call(consumer) is not False
                except FAILURES as error:
                    well = False
                    self.tasks.failed(f"{what} of {consumer.group}", error)
        return well
