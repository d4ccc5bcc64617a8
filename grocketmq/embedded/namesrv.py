"""The name server: routes of all topics, from the brokers that run.

Source: Apache RocketMQ 5.3.3, module namesrv, classes ``ClientRequestProcessor``, ``DefaultRequestProcessor``,
``RouteInfoManager``, ``KVConfigManager``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from grocketmq.codes import STANDARD_JSON_VERSION, RequestCode, ResponseCode
from grocketmq.embedded.answers import success
from grocketmq.embedded.control import Control
from grocketmq.embedded.journal import Journal, Saved
from grocketmq.embedded.table import Table
from grocketmq.model.route import MASTER_ID, BrokerData, Permission, QueueData, TopicRouteData
from grocketmq.remoting.server import Channel, Handler, Refused, RemotingServer
from grocketmq.remoting.tls import ServerContext
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire import bodies, headers
from grocketmq.wire.bodies import ClusterInfo, TopicConfig, TopicList
from grocketmq.wire.command import RemotingCommand

__all__ = ["HEARTBEAT_INTERVAL", "NameServer", "RegisteredBroker"]

#: Seconds from one registration of a broker to its next.
HEARTBEAT_INTERVAL = 30.0

#: Under it operators keep the order of ordered topics' queues.
_ORDER_CONFIG = "ORDER_TOPIC_CONFIG"


class RegisteredBroker(Protocol):
    """What the name server knows of a broker."""

    @property
    def name(self) -> str:
        """The broker's name."""

    @property
    def cluster(self) -> str:
        """The name of its cluster."""

    @property
    def address(self) -> str:
        """``host:port``."""

    @property
    def addresses(self) -> Mapping[int, str]:
        """The addresses by broker id, of master and slaves as far as they run."""

    @property
    def acting_masters(self) -> bool:
        """Whether a slave stands in for a master that does not run."""

    @property
    def topic_configs(self) -> Mapping[str, TopicConfig]:
        """Its topics, always as they are now."""


class NameServer:
    """A name server that the brokers of its process register with directly.

    :param address: ``host:port`` to listen on; port 0 lets the system choose.
    :param control: sees all requests first.
    :param tls: serve TLS only, with this context; None for no TLS.
    :param data: the directory of its data; None to keep it in memory only.
    """

    def __init__(self, address: str, control: Control, tls: ServerContext | None = None, data: Path | None = None) -> None:
        #: By broker name.
        self.brokers: dict[str, RegisteredBroker] = {}
        #: namespace -> key -> value.
        self.kv_config: Table[str, dict[str, str]] = Table()
        self._journal = None if data is None else Journal(data / "namesrv.sqlite")
        self._tasks = TaskGroup("embedded name server")
        self.server = RemotingServer(address, self._handlers(), self._tasks, tls=tls)
        control.attach("namesrv", self.server, self._tasks)

    @property
    def address(self) -> str:
        """``host:port``."""
        return self.server.address

    def start(self) -> None:
        """Listen; blocks only as long as the system takes to bind, and to read its data."""
        if self._journal is not None:
            self._journal.open()
            self._journal.restore({"kv": Saved(self.kv_config)})
            self._tasks.loop("journal", self._journal.loop)
            self.server.hold_back = self._journal.hold_back
        self.server.start()

    def stop(self, *, keep_data: bool = True) -> None:
        """Close the listener and all connections.

        :param keep_data: whether routes and settings are there when it is started again; else brokers are known again by
            their next heartbeats.
        """
        self.server.stop()
        self._tasks.kill()
        if not keep_data:
            self.brokers.clear()
            self.kv_config = Table()
        if self._journal is not None:
            self._journal.close(keep=keep_data)

    def register(self, broker: RegisteredBroker) -> None:
        """Take a broker into the routes; never blocks."""
        self.brokers[broker.name] = broker

    def heartbeat(self, broker: RegisteredBroker) -> None:
        """A running broker registers again, which a name server that does not run misses; never blocks."""
        if self.server.running:
            self.register(broker)

    def unregister(self, broker: RegisteredBroker) -> None:
        """Take a broker out of the routes; never blocks."""
        if self.brokers.get(broker.name) is broker:
            del self.brokers[broker.name]

    def route(self, topic: str) -> TopicRouteData | None:
        """A topic's route, None when no broker has it; never blocks."""
        queues, brokers = [], []
        for broker in self.brokers.values():
            config = broker.topic_configs.get(topic)
            if config is not None:
                data, perm = _broker_data(broker), config.perm
                if data.enable_acting_master and data.broker_addrs and not data.master:
                    data, perm = _with_acting_master(data), perm & ~Permission.WRITE
                reads, writes = config.read_queue_nums, config.write_queue_nums
                queues.append(QueueData(broker.name, reads, writes, perm, config.topic_sys_flag))
                brokers.append(data)
        if not queues:
            return None
        order = self.kv_config.get(_ORDER_CONFIG, {}).get(topic)
        return TopicRouteData(tuple(queues), tuple(brokers), order)

    def _handlers(self) -> dict[int, Handler]:
        return {
            RequestCode.GET_ROUTEINFO_BY_TOPIC: self._route,
            RequestCode.GET_BROKER_CLUSTER_INFO: self._cluster_info,
            RequestCode.GET_ALL_TOPIC_LIST_FROM_NAMESERVER: self._topic_list,
            RequestCode.GET_TOPICS_BY_CLUSTER: self._topics_by_cluster,
            RequestCode.PUT_KV_CONFIG: self._put_kv,
            RequestCode.GET_KV_CONFIG: self._get_kv,
            RequestCode.DELETE_KV_CONFIG: self._delete_kv,
            RequestCode.GET_KVLIST_BY_NAMESPACE: self._kv_list,
            RequestCode.DELETE_TOPIC_IN_NAMESRV: self._delete_topic,
            RequestCode.GET_SYSTEM_TOPIC_LIST_FROM_NS: self._system_topics,
        }

    def _route(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        header = headers.GetRouteInfoRequestHeader.parse(request.ext_fields)
        route = self.route(header.topic)
        if route is None:
            remark = f"No topic route info in name server for the topic: {header.topic}"
            raise Refused(ResponseCode.TOPIC_NOT_EXIST, remark)
        strict = request.version >= STANDARD_JSON_VERSION or header.accept_standard_json_only
        return success(request, body=bodies.TOPIC_ROUTE.encode(route, object_keys=not strict))

    def _cluster_info(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        clusters: dict[str, tuple[str, ...]] = {}
        for broker in self.brokers.values():
            clusters[broker.cluster] = (*clusters.get(broker.cluster, ()), broker.name)
        table = {broker.name: _broker_data(broker) for broker in self.brokers.values()}
        return success(request, body=bodies.CLUSTER_INFO.encode(ClusterInfo(table, clusters), object_keys=True))

    def _topic_list(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        return success(request, body=bodies.TOPIC_LIST.encode(TopicList(self._topics(None))))

    def _topics_by_cluster(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        cluster = headers.GetTopicsByClusterRequestHeader.parse(request.ext_fields).cluster
        return success(request, body=bodies.TOPIC_LIST.encode(TopicList(self._topics(cluster))))

    def _topics(self, cluster: str | None) -> tuple[str, ...]:
        brokers = [broker for broker in self.brokers.values() if cluster in (None, broker.cluster)]
        return tuple(dict.fromkeys(topic for broker in brokers for topic in broker.topic_configs))

    def _put_kv(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        header = headers.PutKVConfigRequestHeader.parse(request.ext_fields)
        before = self.kv_config.get(header.namespace, {})
        self.kv_config[header.namespace] = {**before, header.key: header.value}
        return success(request)

    def _get_kv(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        header = headers.GetKVConfigRequestHeader.parse(request.ext_fields)
        value = self.kv_config.get(header.namespace, {}).get(header.key)
        if value is None:
            remark = f"No config item, Namespace: {header.namespace} Key: {header.key}"
            raise Refused(ResponseCode.QUERY_NOT_FOUND, remark)
        return success(request, headers.GetKVConfigResponseHeader(value=value))

    def _kv_list(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        namespace = (request.ext_fields or {}).get("namespace") or ""
        table = self.kv_config.get(namespace)
        if table is None:
            raise Refused(ResponseCode.QUERY_NOT_FOUND, f"No config item, Namespace: {namespace}")
        return success(request, body=bodies.KV_TABLE.encode(table))

    def _delete_topic(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        """Brokers say which topics there are, so nothing is left to delete once they have."""
        headers.DeleteTopicFromNamesrvRequestHeader.parse(request.ext_fields)
        return success(request)

    def _system_topics(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        """As Java's name server answers: the names of clusters and brokers, which are topics too."""
        names = dict.fromkeys(name for broker in self.brokers.values() for name in (broker.cluster, broker.name))
        address = next((broker.address for broker in self.brokers.values()), None)
        return success(request, body=bodies.TOPIC_LIST.encode(TopicList(tuple(names), address)))

    def _delete_kv(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        header = headers.DeleteKVConfigRequestHeader.parse(request.ext_fields)
        before = self.kv_config.get(header.namespace, {})
        self.kv_config[header.namespace] = {key: value for key, value in before.items() if key != header.key}
        return success(request)


def _broker_data(broker: RegisteredBroker) -> BrokerData:
    return BrokerData(broker.name, dict(broker.addresses), broker.cluster, enable_acting_master=broker.acting_masters)


def _with_acting_master(data: BrokerData) -> BrokerData:
    """The slave with the smallest id stands in the place of the master."""
    slave, *others = sorted(data.broker_addrs)
    return replace(data, broker_addrs={MASTER_ID: data.broker_addrs[slave], **{one: data.broker_addrs[one] for one in others}})
