"""What tools ask a broker: how topics and groups stand, who is connected, where a group shall go on.

Source: Apache RocketMQ 5.5.0, module broker, classes ``AdminBrokerProcessor``, ``ConsumerOffsetManager``.
"""

from __future__ import annotations

from collections.abc import Iterable

from grocketmq.codes import PROTOCOL_VERSION, RequestCode, ResponseCode
from grocketmq.embedded.answers import success
from grocketmq.embedded.clients import ClientTable, Member
from grocketmq.embedded.clock import Clock
from grocketmq.embedded.offsets import OffsetTable
from grocketmq.embedded.store import MessageStore
from grocketmq.embedded.topics import TopicTable
from grocketmq.model.route import MessageQueue
from grocketmq.model.version import version_name
from grocketmq.remoting.server import Channel, Handler, Refused
from grocketmq.wire import bodies, headers
from grocketmq.wire.bodies import (
    Connection,
    ConsumerConnection,
    ConsumeStats,
    OffsetWrapper,
    TopicList,
    TopicOffset,
    TopicStatsTable,
)
from grocketmq.wire.command import RemotingCommand

__all__ = ["AdminRequests"]

#: Figures of a real broker that mean nothing here.
_NO_FIGURES = dict.fromkeys(
    (
        *("msgPutTotalYesterdayMorning", "msgPutTotalTodayMorning", "msgGetTotalYesterdayMorning", "msgGetTotalTodayMorning"),
        *("dispatchBehindBytes", "pageCacheLockTimeMills", "timerReadBehind", "timerOffsetBehind", "timerCongestNum"),
        *("sendThreadPoolQueueSize", "pullThreadPoolQueueSize", "ackThreadPoolQueueSize", "queryThreadPoolQueueSize"),
        *("sendThreadPoolQueueHeadWaitTimeMills", "pullThreadPoolQueueHeadWaitTimeMills"),
        *("ackThreadPoolQueueHeadWaitTimeMills", "queryThreadPoolQueueHeadWaitTimeMills"),
    ),
    "0",
)
_NO_RATES = dict.fromkeys(("timerEnqueueTps", "timerDequeueTps", "commitLogDiskRatio"), "0.0")


class AdminRequests:
    """Answers tools.

    :param broker_name: the broker's name.
    :param store: its messages.
    :param topics: its topics.
    :param clients: its groups.
    :param offsets: its groups' offsets.
    :param clock: the time.
    """

    def __init__(
        self,
        broker_name: str,
        store: MessageStore,
        topics: TopicTable,
        clients: ClientTable,
        offsets: OffsetTable,
        clock: Clock,
    ) -> None:
        self._broker_name = broker_name
        self._store = store
        self._topics = topics
        self._clients = clients
        self._offsets = offsets
        self._clock = clock
        self._since = clock.monotonic()

    def handlers(self) -> dict[int, Handler]:
        """The requests it serves."""
        return {
            RequestCode.GET_ALL_TOPIC_CONFIG: self._all_topics,
            RequestCode.GET_BROKER_RUNTIME_INFO: self._runtime_info,
            RequestCode.GET_ALL_SUBSCRIPTIONGROUP_CONFIG: self._all_groups,
            RequestCode.GET_TOPIC_STATS_INFO: self._topic_stats,
            RequestCode.GET_CONSUMER_CONNECTION_LIST: self._consumer_connections,
            RequestCode.GET_PRODUCER_CONNECTION_LIST: self._producer_connections,
            RequestCode.DELETE_SUBSCRIPTIONGROUP: self._delete_group,
            RequestCode.GET_CONSUME_STATS: self._consume_stats,
            RequestCode.INVOKE_BROKER_TO_RESET_OFFSET: self._reset_offset,
            RequestCode.QUERY_TOPIC_CONSUME_BY_WHO: self._consumed_by,
            RequestCode.QUERY_TOPICS_BY_CONSUMER: self._topics_of_group,
            RequestCode.CLONE_GROUP_OFFSET: self._clone_offsets,
        }

    # -- the broker ----------------------------------------------------------------------------------------------------------

    def _all_topics(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        return success(request, body=bodies.TOPIC_CONFIGS.encode(dict(self._topics.configs)))

    def _all_groups(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        return success(request, body=bodies.GROUP_CONFIGS.encode(dict(self._clients.group_configs)))

    def _runtime_info(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        log = self._store.log
        rate = log.count / max(self._clock.monotonic() - self._since, 1.0)
        figures = {
            **_NO_FIGURES,
            **_NO_RATES,
            "brokerActive": "true",
            "brokerVersion": str(PROTOCOL_VERSION),
            "brokerVersionDesc": version_name(PROTOCOL_VERSION),
            "bootTimestamp": str(self._clock.now_ms() - round((self._clock.monotonic() - self._since) * 1000)),
            "msgPutTotalTodayNow": str(log.count),
            "msgGetTotalTodayNow": "0",
            "putTps": f"{rate:.2f} {rate:.2f} {rate:.2f}",
            "getTransferredTps": "0.0 0.0 0.0",
            "earliestMessageTimeStamp": str(self._store.earliest_time()),
            "commitLogMaxOffset": str(log.end),
        }
        return success(request, body=bodies.KV_TABLE.encode(figures))

    # -- topics --------------------------------------------------------------------------------------------------------------

    def _topic_stats(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        topic = headers.GetTopicStatsInfoRequestHeader.parse(request.ext_fields).topic
        config = self._topics.get(topic)
        if config is None:
            raise Refused(ResponseCode.TOPIC_NOT_EXIST, f"topic[{topic}] not exist")
        found = {}
        for queue_id in range(max(config.read_queue_nums, config.write_queue_nums)):
            queue = self._store.queue(topic, queue_id)
            last = queue.store_time(queue.max_offset - 1)
            found[self._queue(topic, queue_id)] = TopicOffset(queue.min_offset, queue.max_offset, max(0, last))
        return success(request, body=bodies.TOPIC_STATS.encode(TopicStatsTable(found), object_keys=True))

    def _consumed_by(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        topic = headers.QueryTopicConsumeByWhoRequestHeader.parse(request.ext_fields).topic
        groups = {group.name for group in self._clients.consumers.values() if topic in group.subscriptions}
        groups |= {group for group, of, _ in self._offsets.offsets if of == topic}
        return success(request, body=bodies.GROUP_LIST.encode(tuple(sorted(groups))))

    # -- groups --------------------------------------------------------------------------------------------------------------

    def _consumer_connections(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        name = headers.GetConsumerConnectionListRequestHeader.parse(request.ext_fields).consumer_group
        group = self._clients.consumers.get(name)
        if group is None or group.data is None:
            raise Refused(ResponseCode.CONSUMER_NOT_ONLINE, f"the consumer group[{name}] not online")
        data = group.data
        body = ConsumerConnection(
            _connections(group.members.items()),
            dict(group.subscriptions),
            data.consume_type,
            data.message_model,
            data.consume_from_where,
        )
        return success(request, body=bodies.CONSUMER_CONNECTION.encode(body))

    def _producer_connections(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        name = headers.GetProducerConnectionListRequestHeader.parse(request.ext_fields).producer_group
        members = self._clients.producers.get(name)
        if not members:
            raise Refused(ResponseCode.SYSTEM_ERROR, f"the producer group[{name}] not exist")
        return success(request, body=bodies.PRODUCER_CONNECTION.encode(_connections(members.items())))

    def _delete_group(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        header = headers.DeleteSubscriptionGroupRequestHeader.parse(request.ext_fields)
        self._clients.group_configs.pop(header.group_name, None)
        if header.clean_offset:
            self._offsets.forget_group(header.group_name)
        return success(request)

    def _topics_of_group(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        group = (request.ext_fields or {}).get("group") or ""
        return success(request, body=bodies.TOPIC_LIST.encode(TopicList(tuple(sorted(self._offsets.topics_of(group))))))

    def _consume_stats(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        header = headers.GetConsumeStatsRequestHeader.parse(request.ext_fields)
        found = {}
        for topic in self._topics_to_look_at(header):
            config = self._topics.get(topic)
            for queue_id in range(config.read_queue_nums) if config is not None else ():
                queue = self._store.queue(topic, queue_id)
                offset = max(0, self._offsets.offsets.get((header.consumer_group, topic, queue_id), -1))
                last = max(0, queue.store_time(offset - 1))
                found[self._queue(topic, queue_id)] = OffsetWrapper(queue.max_offset, offset, offset, last)
        return success(request, body=bodies.CONSUME_STATS.encode(ConsumeStats(found), object_keys=True))

    def _topics_to_look_at(self, header: headers.GetConsumeStatsRequestHeader) -> Iterable[str]:
        """Those asked for; else those the group has offsets of, without what its members subscribe to no longer."""
        if header.topic_list:
            return filter(None, header.topic_list.split(";"))
        topics = {header.topic} if header.topic else self._offsets.topics_of(header.consumer_group)
        group = self._clients.consumers.get(header.consumer_group)
        if group is not None and group.subscriptions:
            topics &= group.subscriptions.keys()
        return sorted(topics)

    def _reset_offset(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        """Move a group: its next pull of each queue is told, once."""
        header = headers.ResetOffsetRequestHeader.parse(request.ext_fields)
        config = self._topics.get(header.topic)
        if config is None:
            raise Refused(ResponseCode.TOPIC_NOT_EXIST, f"Topic {header.topic} does not exist")
        if header.group not in self._clients.group_configs:
            raise Refused(ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST, f"Group {header.group} does not exist")
        one = header.queue_id >= 0
        table = {}
        for queue_id in (header.queue_id,) if one else range(config.read_queue_nums):
            queue = self._store.queue(header.topic, queue_id)
            if one and header.offset not in (None, -1):
                offset = header.offset or 0
                if not queue.min_offset <= offset <= queue.max_offset + 1:
                    remark = f"Target offset {offset} not in consume queue range [{queue.min_offset}-{queue.max_offset}]"
                    raise Refused(ResponseCode.SYSTEM_ERROR, remark)
            else:
                offset = queue.max_offset if header.timestamp < 0 else queue.search(header.timestamp)
            table[self._queue(header.topic, queue_id)] = offset
        for place, offset in table.items():
            self._offsets.reset(header.group, place, offset)
        return success(request, body=bodies.RESET_OFFSET.encode(table, object_keys=True))

    def _clone_offsets(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        """Have one group stand where another does."""
        fields = request.ext_fields or {}
        source, target, only = fields.get("srcGroup"), fields.get("destGroup"), fields.get("topic")
        if not source or not target:
            raise Refused(ResponseCode.SYSTEM_ERROR, "the fields srcGroup and destGroup are wanted")
        for (group, topic, queue_id), offset in list(self._offsets.offsets.items()):
            if group == source and (not only or topic == only):
                self._offsets.offsets[target, topic, queue_id] = offset
        return success(request)

    def _queue(self, topic: str, queue_id: int) -> MessageQueue:
        return MessageQueue(topic, self._broker_name, queue_id)


def _connections(members: Iterable[tuple[Channel, Member]]) -> tuple[Connection, ...]:
    return tuple(Connection(one.client_id, channel.address, one.language, one.version) for channel, one in members)
