"""POP: messages are shared out one by one, each for a time, and come again unless they are acknowledged.

Source: Apache RocketMQ 5.5.0, module broker, classes ``PopMessageProcessor``, ``NotificationProcessor``,
``PeekMessageProcessor``, ``PollingInfoProcessor``.
"""

from __future__ import annotations

import random
from collections.abc import Hashable
from dataclasses import dataclass, field

from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded.answers import no_such_queue, success
from grocketmq.embedded.clients import ClientTable
from grocketmq.embedded.clock import Clock, Timers
from grocketmq.embedded.filters import EVERYTHING, MessageFilter, filter_of, is_tag_type
from grocketmq.embedded.offsets import OffsetTable
from grocketmq.embedded.pop_check_points import CheckPoints, PoppedQueue
from grocketmq.embedded.pop_orders import Orders
from grocketmq.embedded.pull import MAX_BYTES, MAX_MESSAGES
from grocketmq.embedded.store import GetStatus, Got, MessageStore, queue_offset_of
from grocketmq.embedded.topics import TopicTable
from grocketmq.embedded.waiting import MakeAnswer, Waiting
from grocketmq.errors import ConfigError
from grocketmq.model.namespace import is_retry_topic
from grocketmq.model.properties import Property
from grocketmq.model.route import Permission
from grocketmq.model.subscription import Sql, subscription
from grocketmq.remoting.server import Channel, Handler, Refused
from grocketmq.wire import headers
from grocketmq.wire.bodies import TopicConfig
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.message_codec import decode_message, encode_again
from grocketmq.wire.pop_info import ORDER_REVIVE_QUEUE, PopCheckPoint, retry_flag

__all__ = ["Pops"]

#: Requests that may wait for the same queue of a group.
MAX_POLLING = 1024
#: How many pops in a hundred look at the retry topic first; the others look there when they are not full.
RETRY_FIRST_PERCENT = 20
#: A pop that comes later than this after the end of its poll time, ms, is answered without looking.
_MAX_LATE_MS = 500
#: A poll ends so many ms early.
_END_EARLY_MS = 50
_REVIVE_QUEUES = 8
_FROM_OLDEST = 0
#: The fields of an answer that refuses, as brokers leave them.
_NOTHING = {"popTime": "0", "invisibleTime": "0", "reviveQid": "0", "restNum": "0"}

_Asking = headers.PopMessageRequestHeader | headers.NotificationRequestHeader | headers.PeekMessageRequestHeader


@dataclass(slots=True)
class _Pop:
    """One pop under way: what is asked, and what was found so far."""

    header: headers.PopMessageRequestHeader
    wanted: MessageFilter
    pop_time: int
    revive_queue: int
    frames: list[bytes] = field(default_factory=list)
    rest: int = 0
    starts: list[str] = field(default_factory=list)
    offsets: list[str] = field(default_factory=list)
    tries: list[str] = field(default_factory=list)

    @property
    def room(self) -> int:
        """How many more messages it takes."""
        return min(self.header.max_msg_nums, MAX_MESSAGES) - len(self.frames)

    def answer_header(self) -> headers.PopMessageResponseHeader:
        """What goes with the messages."""
        return headers.PopMessageResponseHeader(
            pop_time=self.pop_time,
            invisible_time=self.header.invisible_time,
            revive_qid=self.revive_queue,
            rest_num=self.rest,
            start_offset_info=";".join(self.starts),
            msg_offset_info=";".join(self.offsets),
            order_count_info=";".join(self.tries) if self.header.order else None,
        )


class Pops:
    """Answers pops, at once or when there is something.

    :param broker_name: part of check points.
    :param store: the broker's messages.
    :param topics: its topics.
    :param clients: its groups.
    :param offsets: its groups' offsets.
    :param check_points: what is out.
    :param orders: what is out of queues popped in order.
    :param timers: end long polls.
    :param clock: the time.
    """

    def __init__(
        self,
        broker_name: str,
        store: MessageStore,
        topics: TopicTable,
        clients: ClientTable,
        offsets: OffsetTable,
        check_points: CheckPoints,
        orders: Orders,
        timers: Timers,
        clock: Clock,
    ) -> None:
        self._broker_name = broker_name
        self._store = store
        self._topics = topics
        self._clients = clients
        self._offsets = offsets
        self._check_points = check_points
        self._orders = orders
        self._timers = timers
        self._clock = clock
        #: Requests that wait for a message of a topic.
        self.waiting = Waiting(timers)

    def handlers(self) -> dict[int, Handler]:
        """The requests it serves."""
        return {
            RequestCode.POP_MESSAGE: self._pop,
            RequestCode.PEEK_MESSAGE: self._peek,
            RequestCode.NOTIFICATION: self._notification,
            RequestCode.POLLING_INFO: self._polling_info,
        }

    # -- popping -------------------------------------------------------------------------------------------------------------

    def _pop(self, request: RemotingCommand, channel: Channel) -> RemotingCommand | None:
        header = headers.PopMessageRequestHeader.parse(self._with_born_time(request))
        if self._clock.clients_now_ms() - header.born_time - header.poll_time > _MAX_LATE_MS:
            remark = f"the broker[{self._broker_name}] pop message is timeout too much"
            raise Refused(ResponseCode.POLLING_TIMEOUT, remark, dict(_NOTHING))
        if header.max_msg_nums > MAX_MESSAGES:
            remark = f"the broker[{self._broker_name}] pop message's num is greater than {MAX_MESSAGES}"
            raise Refused(ResponseCode.INVALID_PARAMETER, remark, dict(_NOTHING))
        self._check(header)
        wanted = self._filter(header)
        found = self._look(header, wanted)
        if found.frames:
            return self._found(request, found)
        code = self._hold(request, channel, header, lambda at_its_end: self._again(request, header, wanted, at_its_end))
        return None if code is None else self._nothing(request, found, code)

    def _with_born_time(self, request: RemotingCommand) -> dict[str, str | None]:
        """A request's fields; a request that does not say so was made now."""
        fields = request.ext_fields or {}
        return (
            fields if fields.get("bornTime") not in (None, "0") else {**fields, "bornTime": str(self._clock.clients_now_ms())}
        )

    def _again(
        self, request: RemotingCommand, header: headers.PopMessageRequestHeader, wanted: MessageFilter, at_its_end: bool
    ) -> RemotingCommand | None:
        """Try a request once more that waited."""
        self._check(header)
        found = self._look(header, wanted)
        if found.frames:
            return self._found(request, found)
        return self._nothing(request, found, ResponseCode.POLLING_TIMEOUT) if at_its_end else None

    def _found(self, request: RemotingCommand, found: _Pop) -> RemotingCommand:
        if found.rest > 0:
            self.waiting.happened(found.header.topic)
        return success(request, found.answer_header(), b"".join(found.frames), GetStatus.FOUND.value)

    def _nothing(self, request: RemotingCommand, found: _Pop, code: int) -> RemotingCommand:
        remark = GetStatus.NO_MESSAGE_IN_QUEUE.value
        return RemotingCommand.response_to(request, code, remark, found.answer_header().to_ext())

    def _check(self, header: _Asking) -> TopicConfig:
        """Refuse what may not be popped."""
        config = self._topics.get(header.topic)
        if config is None:
            raise Refused(ResponseCode.TOPIC_NOT_EXIST, f"topic[{header.topic}] not exist, apply first please!", dict(_NOTHING))
        if not config.perm & Permission.READ:
            raise Refused(ResponseCode.NO_PERMISSION, f"the topic[{header.topic}] peeking message is forbidden", dict(_NOTHING))
        if header.queue_id >= config.read_queue_nums:
            raise Refused(ResponseCode.INVALID_PARAMETER, no_such_queue(header.queue_id, config), dict(_NOTHING))
        if not self._clients.group_config(header.consumer_group).consume_enable:
            remark = f"subscription group no permission, {header.consumer_group}"
            raise Refused(ResponseCode.NO_PERMISSION, remark, dict(_NOTHING))
        return config

    def _filter(self, header: headers.PopMessageRequestHeader) -> MessageFilter:
        if not header.exp:
            return EVERYTHING
        try:
            return filter_of(subscription(header.topic, header.exp if is_tag_type(header.exp_type) else Sql(header.exp)))
        except ConfigError as error:
            raise Refused(
                ResponseCode.SUBSCRIPTION_PARSE_FAILED, "parse the consumer's subscription failed", dict(_NOTHING)
            ) from error

    def _look(self, header: headers.PopMessageRequestHeader, wanted: MessageFilter) -> _Pop:
        """Take what there is: mostly from the topic first, now and then from the retry topic first."""
        chance = random.randrange(100)
        revive_queue = ORDER_REVIVE_QUEUE if header.order else chance % _REVIVE_QUEUES
        found = _Pop(header, wanted, self._clock.now_ms(), revive_queue)
        retry_topic = self._check_points.retry_topic(header.topic, header.consumer_group, first_version=chance % 2 == 0)
        retry_first = chance < RETRY_FIRST_PERCENT
        if retry_first and not header.order:
            self._take_all(found, retry_topic, chance)
        if header.queue_id < 0:
            self._take_all(found, header.topic, chance)
        else:
            self._take(found, header.topic, header.queue_id)
        if not retry_first and found.room > 0 and not header.order:
            self._take_all(found, retry_topic, chance)
        if not found.frames and not header.order:  # an answer may hold messages of one retry topic only
            other = self._check_points.retry_topic(header.topic, header.consumer_group, first_version=chance % 2 == 1)
            if other != retry_topic:
                self._take_all(found, other, chance)
        return found

    def _take_all(self, found: _Pop, topic: str, chance: int) -> None:
        config = self._topics.get(topic)
        if config is not None:
            for number in range(config.read_queue_nums):
                self._take(found, topic, (chance + number) % config.read_queue_nums)

    def _take(self, found: _Pop, topic: str, queue_id: int) -> None:
        """Take what one queue has."""
        header = found.header
        place = PoppedQueue(header.consumer_group, topic, queue_id)
        offset = self._start(place, header.init_mode)
        if header.order and self._orders.blocked(place, header.attempt_id):
            return
        queue = self._store.queue(topic, queue_id)
        if found.room <= 0:
            found.rest += queue.max_offset - offset
            return
        got = queue.get(offset, found.room, MAX_BYTES, found.wanted)
        if got.status in (GetStatus.TOO_SMALL, GetStatus.OVERFLOW_BADLY):
            offset = self._offsets.offsets[place] = got.next_offset
            got = queue.get(offset, found.room, MAX_BYTES, found.wanted)
        found.rest += max(0, got.max_offset - got.next_offset)
        if got.frames:
            self._hand_out(found, place, offset, got)
        elif got.status is GetStatus.NO_MATCHED:
            self._offsets.offsets[place] = got.next_offset

    def _start(self, place: PoppedQueue, init_mode: int) -> int:
        """Where a group reads a queue next."""
        reset = self._offsets.take_reset(*place)
        if reset is not None:
            self._orders.forget(place)
            self._offsets.offsets[place] = reset
        offset = self._offsets.offsets.get(place, -1)
        if offset < 0:
            queue = self._store.queue(place.topic, place.queue_id)
            offset = queue.min_offset
            if init_mode != _FROM_OLDEST and not is_retry_topic(place.topic) and offset > 0:
                offset = queue.max_offset - 1  # brokers begin at the first message of a young queue, and at the last of others
            self._offsets.offsets[place] = offset
        return offset

    def _hand_out(self, found: _Pop, place: PoppedQueue, start: int, got: Got) -> None:
        header, flag, queue_id = found.header, retry_flag(place.topic), place.queue_id
        offsets = [queue_offset_of(frame) for frame in got.frames]
        if header.order:
            tries, least = self._orders.hand_out(place, header.attempt_id, found.pop_time, header.invisible_time, offsets)
            found.tries += [f"{flag} qo{queue_id}%{offset} {count}" for offset, count in tries.items()]
            found.tries.append(f"{flag} {queue_id} {least}")
            self._timers.after(header.invisible_time / 1000, self.waiting.happened, header.topic)
        else:
            self._check_points.add(place, start, offsets, found.pop_time, header.invisible_time)
            self._offsets.offsets[place] = got.next_offset
        found.starts.append(f"{flag} {queue_id} {start}")
        found.offsets.append(f"{flag} {queue_id} {','.join(map(str, offsets))}")
        if not is_retry_topic(place.topic):
            found.frames += got.frames
            return
        point = PopCheckPoint(
            start, found.pop_time, header.invisible_time, found.revive_queue, flag, self._broker_name, queue_id
        )
        found.frames += [_with_first_topic(frame, header.topic, point) for frame in got.frames]

    # -- waiting -------------------------------------------------------------------------------------------------------------

    def _hold(
        self,
        request: RemotingCommand,
        channel: Channel,
        header: headers.PopMessageRequestHeader | headers.NotificationRequestHeader,
        answer: MakeAnswer,
    ) -> int | None:
        """Let a request wait.

        :returns: None when it does, else the code by which to answer it.
        """
        left = header.born_time + header.poll_time - _END_EARLY_MS - self._clock.clients_now_ms()
        if header.poll_time <= 0 or left < 0:
            return ResponseCode.POLLING_TIMEOUT
        place = PoppedQueue(header.consumer_group, header.topic, header.queue_id)
        if self.waiting.count(place) > MAX_POLLING or not self.waiting.has_room(channel):
            return ResponseCode.POLLING_FULL
        retry_topics = {
            self._check_points.retry_topic(header.topic, header.consumer_group, first_version=first) for first in (False, True)
        }
        keys: tuple[Hashable, ...] = (place, header.topic, *retry_topics)
        self.waiting.hold(request, channel, keys, left / 1000, answer)
        return None

    def _notification(self, request: RemotingCommand, channel: Channel) -> RemotingCommand | None:
        """Tell when there is something to pop."""
        header = headers.NotificationRequestHeader.parse(self._with_born_time(request))
        self._check(header)
        if self._has_something(header):
            return success(request, headers.NotificationResponseHeader(has_msg=True))

        def answer(at_its_end: bool) -> RemotingCommand | None:
            has_msg = self._has_something(header)
            return success(request, headers.NotificationResponseHeader(has_msg=has_msg)) if has_msg or at_its_end else None

        code = self._hold(request, channel, header, answer)
        if code is None:
            return None
        return success(request, headers.NotificationResponseHeader(polling_full=code == ResponseCode.POLLING_FULL))

    def _polling_info(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        header = headers.PollingInfoRequestHeader.parse(request.ext_fields)
        count = self.waiting.count(PoppedQueue(header.consumer_group, header.topic, header.queue_id))
        return success(request, headers.PollingInfoResponseHeader(polling_num=count))

    # -- looking -------------------------------------------------------------------------------------------------------------

    def _places(self, header: headers.NotificationRequestHeader | headers.PeekMessageRequestHeader) -> list[PoppedQueue]:
        """All queues a request is about, those of its retry topic last."""
        retry_topic = self._check_points.retry_topic(header.topic, header.consumer_group)
        places = []
        for topic, queue_id in ((header.topic, header.queue_id), (retry_topic, -1)):
            config = self._topics.get(topic)
            if config is not None:
                numbers = range(config.read_queue_nums) if queue_id < 0 else (queue_id,)
                places += [PoppedQueue(header.consumer_group, topic, number) for number in numbers]
        return places

    def _offset(self, place: PoppedQueue) -> int:
        offset = self._offsets.offsets.get(place, -1)
        return offset if offset >= 0 else self._store.queue(place.topic, place.queue_id).min_offset

    def _has_something(self, header: headers.NotificationRequestHeader) -> bool:
        for place in self._places(header):
            if header.order and self._orders.blocked(place, header.attempt_id):
                continue
            if self._store.queue(place.topic, place.queue_id).max_offset > self._offset(place):
                return True
        return False

    def _peek(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        """Messages as they are, without taking them."""
        header = headers.PeekMessageRequestHeader.parse(request.ext_fields)
        self._check(header)
        frames: list[bytes] = []
        rest = 0
        for place in self._places(header):
            queue = self._store.queue(place.topic, place.queue_id)
            offset = max(self._offset(place), queue.min_offset)
            rest += max(0, queue.max_offset - offset)
            if (room := min(header.max_msg_nums, MAX_MESSAGES) - len(frames)) > 0:
                frames += queue.get(offset, room, MAX_BYTES).frames
        answer = headers.PopMessageResponseHeader(pop_time=0, invisible_time=0, revive_qid=0, rest_num=rest)
        if frames:
            return success(request, answer, b"".join(frames), GetStatus.FOUND.value)
        remark = GetStatus.NO_MESSAGE_IN_QUEUE.value
        return RemotingCommand.response_to(request, ResponseCode.PULL_NOT_FOUND, remark, answer.to_ext())


def _with_first_topic(frame: bytes, topic: str, point: PopCheckPoint) -> bytes:
    """A message of the retry topic as clients are given it: with its first topic, and the check point among its properties."""
    message = decode_message(frame, decompress=False)
    message.topic = topic
    message.properties.setdefault(Property.POP_CK, f"{point} {message.queue_offset}")
    return encode_again(message)
