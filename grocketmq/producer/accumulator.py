"""Auto-batching: single messages that are sent at about the same time travel together.

Source: Apache RocketMQ 5.3.3, module client, class ``ProduceAccumulator``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gevent.event import AsyncResult

from grocketmq.codes import RequestCode
from grocketmq.errors import ClientStateError, MessageIllegalError, RequestTimeout
from grocketmq.model.message import Message
from grocketmq.model.namespace import is_retry_topic
from grocketmq.model.properties import Property, encode_properties
from grocketmq.model.results import SendResult
from grocketmq.model.route import MessageQueue
from grocketmq.producer.config import AutoBatch, Backpressure
from grocketmq.producer.outgoing import NOT_IN_BATCHES, Outgoing
from grocketmq.producer.window import SendWindow
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire.message_codec import encode_batch_part

__all__ = ["Accumulator"]

#: ``(batch, queue, deadline, only unanswered tries are repeated) -> where it was stored``.
Deliver = Callable[[Outgoing, MessageQueue | None, Deadline, bool], SendResult]

#: What messages must have in common: topic, the caller's queue, whether to wait for the store, how tries are repeated.
_Key = tuple[str, MessageQueue | None, str | None, bool]

_NO_COUNT = 1 << 31


class _Entry:
    """One caller's message."""

    __slots__ = ("deadline", "outgoing", "part", "result")

    def __init__(self, outgoing: Outgoing, part: bytes, deadline: Deadline) -> None:
        self.outgoing = outgoing
        self.part = part
        self.deadline = deadline
        self.result = AsyncResult()


class _Gathering:
    """Messages that will travel together."""

    __slots__ = ("entries", "gone", "size")

    def __init__(self) -> None:
        self.entries: list[_Entry] = []
        self.size = 0
        self.gone = False


class Accumulator:
    """Gathers messages for a moment and sends them as batches; belongs to the hub in which it was made.

    :param settings: for how long, and how much.
    :param tasks: owns the greenlets that send.
    :param deliver: sends a batch.
    """

    def __init__(self, settings: AutoBatch, tasks: TaskGroup, deliver: Deliver) -> None:
        self._settings = settings
        self._tasks = tasks
        self._deliver = deliver
        self._gatherings: dict[_Key, _Gathering] = {}
        self._room = SendWindow(Backpressure(_NO_COUNT, settings.max_pending_bytes))

    def takes(self, outgoing: Outgoing) -> bool:
        """Whether a message may travel with others: it is single, not packed, not delayed, of no transaction, and small."""
        return (
            outgoing.code is RequestCode.SEND_MESSAGE_V2
            and not outgoing.sys_flag
            and NOT_IN_BATCHES.isdisjoint(outgoing.message.properties)
            and not is_retry_topic(outgoing.message.topic)
            and len(outgoing.body) + len(outgoing.properties) < self._settings.max_bytes
        )

    def send(self, outgoing: Outgoing, queue: MessageQueue | None, deadline: Deadline, only_unanswered: bool) -> SendResult:
        """Send a message with others; blocks until they are stored, at most until the deadline.

        :raises TooManyRequestsError: when so much waits already that there is no room in time; nothing was sent.
        :raises RequestTimeout: when its batch was not stored by the deadline.
        :raises GRocketMQError: what the batch ended with.
        """
        message = outgoing.message
        part = encode_batch_part(message.flag, outgoing.body, outgoing.properties)
        self._room.enter(len(part), deadline)
        entry = _Entry(outgoing, part, deadline)
        self._gather((message.topic, queue, message.properties.get(Property.WAIT_STORE_MSG_OK), only_unanswered), entry)
        entry.result.wait(deadline.remaining())
        if not entry.result.ready():
            raise RequestTimeout(f"no answer in time for the batch with message {outgoing.msg_id} of topic {message.topic}")
        result: SendResult = entry.result.get()
        return result

    def _gather(self, key: _Key, entry: _Entry) -> None:
        gathering = self._gatherings.get(key)
        if gathering is not None and gathering.size + len(entry.part) > self._settings.max_bytes:
            self._tasks.spawn("auto batch", self._flush, key, gathering)  # if it is killed first, so is the one that waits
            del self._gatherings[key]
            gathering = None
        if gathering is None:
            gathering = made = self._gatherings[key] = _Gathering()
            later = self._tasks.spawn_later(self._settings.max_delay, "auto batch", self._flush, key, made)
            later.rawlink(lambda _: self._cut_off(key, made))
        gathering.entries.append(entry)
        gathering.size += len(entry.part)

    def _flush(self, key: _Key, gathering: _Gathering) -> None:
        if self._take(key, gathering):
            try:
                self._send(key, gathering.entries)
            finally:
                self._settle(gathering)

    def _cut_off(self, key: _Key, gathering: _Gathering) -> None:
        """What was to send has ended; it may have been killed before it ran."""
        if self._take(key, gathering):
            self._settle(gathering)

    def _take(self, key: _Key, gathering: _Gathering) -> bool:
        """Let nothing join any more; whether nobody else has taken it."""
        if gathering.gone:
            return False
        gathering.gone = True
        if self._gatherings.get(key) is gathering:
            del self._gatherings[key]
        return True

    def _settle(self, gathering: _Gathering) -> None:
        """Give the room back, and tell those whose message was not sent; never blocks."""
        for entry in gathering.entries:
            self._room.leave(len(entry.part))
            if not entry.result.ready():
                entry.result.set_exception(ClientStateError("the producer was shut down before the message was sent"))

    def _send(self, key: _Key, entries: list[_Entry]) -> None:
        """Send a batch and tell each caller; one by one when the broker does not like all of it."""
        _, queue, _, only_unanswered = key
        deadline = max((entry.deadline for entry in entries), key=lambda one: one.remaining())
        try:
            stored = self._deliver(_batch(entries), queue, deadline, only_unanswered)
        except MessageIllegalError as error:
            if len(entries) == 1:
                entries[0].result.set_exception(error)
            else:
                for entry in entries:
                    self._send(key, [entry])
        except Exception as error:
            for entry in entries:
                entry.result.set_exception(error)
        else:
            for index, entry in enumerate(entries):
                entry.result.set(_share(stored, index, len(entries), entry.outgoing.msg_id))


def _batch(entries: list[_Entry]) -> Outgoing:
    first = entries[0].outgoing.message
    body = b"".join([entry.part for entry in entries])
    whole = Message(first.topic, body, wait_store_ok=first.wait_store_ok)
    ids = ",".join([entry.outgoing.msg_id for entry in entries])
    return Outgoing(whole, ids, body, 0, encode_properties(whole.properties), RequestCode.SEND_BATCH_MESSAGE)


def _share(stored: SendResult, index: int, count: int, msg_id: str) -> SendResult:
    """One message's part of a batch's result."""
    places = stored.offset_msg_id.split(",")
    place = places[index] if len(places) == count else stored.offset_msg_id
    return replace(stored, msg_id=msg_id, offset_msg_id=place, queue_offset=stored.queue_offset + index, transaction_id=msg_id)
