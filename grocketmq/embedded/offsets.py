"""Offsets: those of groups, and questions about queues.

Source: Apache RocketMQ 5.3.3, module broker, classes ``ConsumerOffsetManager``, ``ConsumerManageProcessor``,
``AdminBrokerProcessor``, ``QueryMessageProcessor``.
"""

from __future__ import annotations

from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded.answers import success
from grocketmq.embedded.clients import ClientTable
from grocketmq.embedded.store import ConsumeQueue, MessageStore
from grocketmq.embedded.table import Table
from grocketmq.embedded.topics import TopicTable
from grocketmq.model.route import MessageQueue
from grocketmq.remoting.server import Channel, Handler, Refused
from grocketmq.wire import headers
from grocketmq.wire.command import RemotingCommand

__all__ = ["OffsetTable"]

_Key = tuple[str, str, int]


class OffsetTable:
    """The offsets of groups on one broker.

    :param store: the broker's messages.
    :param topics: its topics.
    :param clients: its groups.
    """

    def __init__(self, store: MessageStore, topics: TopicTable, clients: ClientTable) -> None:
        #: (group, topic, queue id) -> where the group stands.
        self.offsets: Table[_Key, int] = Table()
        #: The same: where an operator put the group; the next pull tells it, once.
        self.resets: Table[_Key, int] = Table()
        self._store = store
        self._topics = topics
        self._clients = clients

    def handlers(self) -> dict[int, Handler]:
        """The requests it serves."""
        return {
            RequestCode.QUERY_CONSUMER_OFFSET: self._query,
            RequestCode.UPDATE_CONSUMER_OFFSET: self._update,
            RequestCode.SEARCH_OFFSET_BY_TIMESTAMP: self._search,
            RequestCode.GET_MAX_OFFSET: self._max,
            RequestCode.GET_MIN_OFFSET: self._min,
            RequestCode.GET_EARLIEST_MSG_STORETIME: self._earliest,
        }

    def take_reset(self, group: str, topic: str, queue_id: int) -> int | None:
        """Where an operator put the group, None when there is nothing to tell (any more)."""
        return self.resets.pop((group, topic, queue_id), None) if self.resets else None

    def reset(self, group: str, queue: MessageQueue, offset: int) -> None:
        """Put a group elsewhere; its next pull tells it, once.  Never blocks."""
        key = (group, queue.topic, queue.queue_id)
        self.resets[key] = self.offsets[key] = offset

    def topics_of(self, group: str) -> set[str]:
        """The topics a group has offsets of."""
        return {topic for name, topic, _ in self.offsets if name == group}

    def forget_group(self, group: str) -> None:
        """Drop the offsets of a group."""
        for table in (self.offsets, self.resets):
            for key in [key for key in table if key[0] == group]:
                del table[key]

    def forget_topic(self, topic: str) -> None:
        """Drop the offsets of a topic."""
        for table in (self.offsets, self.resets):
            for key in [key for key in table if key[1] == topic]:
                del table[key]

    def _query(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        header = headers.QueryConsumerOffsetRequestHeader.parse(request.ext_fields)
        key = (header.consumer_group, header.topic, header.queue_id)
        offset = self.resets.get(key, self.offsets.get(key, -1))
        if offset < 0:
            queue = self._store.queue(header.topic, header.queue_id)
            if header.set_zero_if_not_found is False:
                raise Refused(ResponseCode.QUERY_NOT_FOUND, "Not found, do not set to zero, maybe this group boot first", {})
            if queue.min_offset or not queue.max_offset:
                remark = "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first"
                raise Refused(ResponseCode.QUERY_NOT_FOUND, remark, {})
            offset = 0
        return success(request, headers.QueryConsumerOffsetResponseHeader(offset=offset))

    def _update(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        header = headers.UpdateConsumerOffsetRequestHeader.parse(request.ext_fields)
        if header.consumer_group not in self._clients.group_configs:
            remark = f"Group {header.consumer_group} not exist!"
            raise Refused(ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST, remark, {})
        if self._topics.get(header.topic) is None:
            raise Refused(ResponseCode.TOPIC_NOT_EXIST, f"Topic {header.topic} not exist!", {})
        key = (header.consumer_group, header.topic, header.queue_id)
        if key in self.resets:
            return success(request, remark="Offset has been previously reset")
        self.offsets[key] = header.commit_offset
        return success(request)

    def _search(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        header = headers.SearchOffsetRequestHeader.parse(request.ext_fields)
        upper = (header.boundary_type or "").upper() == "UPPER"
        offset = self._queue(header).search(header.timestamp, upper=upper)
        return success(request, headers.SearchOffsetResponseHeader(offset=offset))

    def _max(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        queue = self._queue(headers.GetMaxOffsetRequestHeader.parse(request.ext_fields))
        return success(request, headers.GetMaxOffsetResponseHeader(offset=queue.max_offset))

    def _min(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        queue = self._queue(headers.GetMinOffsetRequestHeader.parse(request.ext_fields))
        return success(request, headers.GetMinOffsetResponseHeader(offset=queue.min_offset))

    def _earliest(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        queue = self._queue(headers.GetEarliestMsgStoretimeRequestHeader.parse(request.ext_fields))
        return success(request, headers.GetEarliestMsgStoretimeResponseHeader(timestamp=queue.earliest_time()))

    def _queue(
        self,
        header: headers.SearchOffsetRequestHeader
        | headers.GetMaxOffsetRequestHeader
        | headers.GetMinOffsetRequestHeader
        | headers.GetEarliestMsgStoretimeRequestHeader,
    ) -> ConsumeQueue:
        return self._store.queue(header.topic, header.queue_id)
