"""Acknowledging what was popped, and asking for more time.

Source: Apache RocketMQ 5.5.0, module broker, classes ``AckMessageProcessor``, ``ChangeInvisibleTimeProcessor``.
"""

from __future__ import annotations

from collections.abc import Callable

from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded.answers import no_such_queue, success
from grocketmq.embedded.clock import Clock
from grocketmq.embedded.offsets import OffsetTable
from grocketmq.embedded.pop_check_points import CheckPoints, PoppedQueue
from grocketmq.embedded.pop_orders import Orders
from grocketmq.embedded.store import MAX_FILTERED, MessageStore
from grocketmq.embedded.topics import TopicTable
from grocketmq.model.namespace import normal_topic
from grocketmq.remoting.server import Channel, Handler, Refused
from grocketmq.wire import bodies, headers
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.pop_info import ORDER_REVIVE_QUEUE, decode_pop_ck, real_topic

__all__ = ["PopAcks"]

#: The fields of an answer that changes nothing, as brokers leave them.
_UNCHANGED = {"popTime": "0", "invisibleTime": "0", "reviveQid": "0"}

_Header = headers.AckMessageRequestHeader | headers.ChangeInvisibleTimeRequestHeader


class PopAcks:
    """Takes acknowledgements.

    :param store: the broker's messages.
    :param topics: its topics.
    :param offsets: its groups' offsets.
    :param check_points: what is out.
    :param orders: what is out of queues popped in order.
    :param clock: the time.
    :param on_unblocked: told of the topic of an ordered queue that may be popped again.
    """

    def __init__(
        self,
        store: MessageStore,
        topics: TopicTable,
        offsets: OffsetTable,
        check_points: CheckPoints,
        orders: Orders,
        clock: Clock,
        on_unblocked: Callable[[str], None],
    ) -> None:
        self._store = store
        self._topics = topics
        self._offsets = offsets
        self._check_points = check_points
        self._orders = orders
        self._clock = clock
        self._on_unblocked = on_unblocked

    def handlers(self) -> dict[int, Handler]:
        """The requests it serves."""
        return {
            RequestCode.ACK_MESSAGE: self._ack,
            RequestCode.BATCH_ACK_MESSAGE: self._batch_ack,
            RequestCode.CHANGE_MESSAGE_INVISIBLETIME: self._change_invisible,
        }

    def _place(self, header: _Header) -> PoppedQueue:
        """The queue a request is about, which must be there."""
        config = self._topics.get(header.topic)
        if config is None:
            raise Refused(ResponseCode.TOPIC_NOT_EXIST, f"topic[{header.topic}] not exist, apply first please!")
        if not 0 <= header.queue_id < config.read_queue_nums:
            raise Refused(ResponseCode.MESSAGE_ILLEGAL, no_such_queue(header.queue_id, config))
        return PoppedQueue(header.consumer_group, header.topic, header.queue_id)

    def _ack(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        header = headers.AckMessageRequestHeader.parse(request.ext_fields)
        place = self._place(header)
        queue = self._store.queue(place.topic, place.queue_id)
        if not queue.min_offset <= header.offset <= queue.max_offset:
            remark = (
                f"offset is illegal, key:{place.topic}@{place.queue_id}, commit:{header.offset}, "
                f"store:{queue.min_offset}~{queue.max_offset}"
            )
            raise Refused(ResponseCode.NO_MESSAGE, remark)
        point = decode_pop_ck(header.extra_info)
        if point.is_order:
            self._ack_in_order(place, header.offset, point.pop_time)
        else:
            self._check_points.acknowledge(place, point.ck_queue_offset, (header.offset,), point.pop_time)
        return success(request)

    def _batch_ack(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        acks = bodies.BATCH_ACK.decode(request.body).acks if request.body else ()
        if not acks:
            raise Refused(ResponseCode.NO_MESSAGE)
        for ack in acks:
            place = PoppedQueue(ack.consumer_group, real_topic(ack.retry, ack.topic, ack.consumer_group), ack.queue_id)
            queue = self._store.queue(place.topic, place.queue_id)
            first, last = queue.min_offset - ack.start_offset, queue.max_offset - ack.start_offset
            offsets = [ack.start_offset + bit for bit in _bits(ack.bit_set) if first <= bit <= last]
            if ack.revive_queue_id == ORDER_REVIVE_QUEUE:
                for offset in offsets:
                    self._ack_in_order(place, offset, ack.pop_time)
            else:
                self._check_points.acknowledge(place, ack.start_offset, offsets, ack.pop_time)
        return success(request)

    def _ack_in_order(self, place: PoppedQueue, offset: int, pop_time: int) -> None:
        if offset < self._offsets.offsets.get(place, -1):
            return
        standing = self._orders.acknowledge(place, offset, pop_time)
        if standing is None:
            return
        if standing < 0:
            remark = f"offset is illegal, key:{place.topic}@{place.queue_id}, commit:{offset}: it is not out"
            raise Refused(ResponseCode.MESSAGE_ILLEGAL, remark)
        if place not in self._offsets.resets:
            self._offsets.offsets[place] = standing
        if not self._orders.blocked(place):
            self._on_unblocked(normal_topic(place.topic, place.group))

    def _change_invisible(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        header = headers.ChangeInvisibleTimeRequestHeader.parse(request.ext_fields)
        try:
            place = self._place(header)
        except Refused as refused:
            refused.ext_fields = dict(_UNCHANGED)
            raise
        queue = self._store.queue(place.topic, place.queue_id)
        if not queue.min_offset <= header.offset < queue.max_offset:
            raise Refused(ResponseCode.NO_MESSAGE, None, dict(_UNCHANGED))
        point = decode_pop_ck(header.extra_info)
        now = self._clock.now_ms()
        pop_time, invisible = now, header.invisible_time
        if point.is_order:
            if header.offset < self._offsets.offsets.get(place, -1):
                return success(request)
            pop_time, invisible = point.pop_time, now + header.invisible_time - point.pop_time
            self._orders.change(place, header.offset, pop_time, now + header.invisible_time)
        else:
            before = (point.ck_queue_offset, point.pop_time)
            pop_time = self._check_points.move(place, *before, header.offset, now, header.invisible_time)
        answer = headers.ChangeInvisibleTimeResponseHeader(
            pop_time=pop_time, invisible_time=invisible, revive_qid=point.revive_qid
        )
        return success(request, answer)


def _bits(bit_set: int) -> list[int]:
    """The numbers of the bits that are set, from 0; no pop reaches further than a read looks."""
    near = bit_set & ((1 << MAX_FILTERED) - 1)
    return [number for number in range(MAX_FILTERED) if near >> number & 1]
