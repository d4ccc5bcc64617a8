"""Messages on their way into the store, and those that have to wait before.

A message with a delay is stored in the broker's own topic first, as a real broker does, and stored again in its real topic when
its time has come.

Source: Apache RocketMQ 5.3.3, module broker, classes ``HookUtils``, ``ScheduleMessageService``; module store, class
``TimerMessageStore``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from grocketmq.codes import ResponseCode
from grocketmq.embedded.clock import Clock, Timer, Timers
from grocketmq.embedded.store import MessageStore, Stored, tags_code
from grocketmq.embedded.table import Table
from grocketmq.embedded.topics import SCHEDULE_TOPIC, TIMER_TOPIC
from grocketmq.errors import LocalProtocolError
from grocketmq.model.message import MessageExt
from grocketmq.model.properties import Property, encode_properties
from grocketmq.model.validators import MAX_MESSAGE_BYTES
from grocketmq.remoting.server import Refused
from grocketmq.wire.message_codec import decode_message

__all__ = ["DELAY_LEVELS", "ILLEGAL", "MAX_TIMER_DELAY", "Draft", "Intake"]

_MINUTE, _HOUR = 60.0, 3600.0
#: Seconds of the levels 1 to 18, as brokers have them unless they are configured otherwise.
DELAY_LEVELS: tuple[float, ...] = (
    *(1.0, 5.0, 10.0, 30.0),
    *(minutes * _MINUTE for minutes in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30)),
    *(_HOUR, 2 * _HOUR),
)
#: Seconds a message with a time of delivery may wait at most.
MAX_TIMER_DELAY = 72 * _HOUR
#: A time of delivery is rounded down to whole steps, ms.
_TIMER_STEP_MS = 1000

_TIMER_NAMES = (Property.TIMER_DELAY_SEC, Property.TIMER_DELAY_MS, Property.TIMER_DELIVER_MS)
_DELAYING = frozenset({Property.DELAY_TIME_LEVEL, *_TIMER_NAMES})

#: The remark of answers to messages that cannot be stored.
ILLEGAL = (
    f"the message is illegal, maybe msg body or properties length not matched. msg body length limit {MAX_MESSAGE_BYTES}B, "
    "msg properties length limit 32KB."
)
_ILLEGAL_TIMER = (
    f"timer message illegal, the delay time should not be bigger than the max delay {MAX_TIMER_DELAY * 1000:.0f}ms; or if set "
    "del msg, the delay time should be bigger than the current time"
)


@dataclass(slots=True)
class Draft:
    """A message that is to be stored."""

    topic: str
    queue_id: int
    body: bytes
    properties: dict[str, str]
    sys_flag: int
    flag: int
    born_timestamp: int
    born_host: tuple[bytes, int]
    reconsume_times: int
    prepared_transaction_offset: int = 0

    @classmethod
    def of(cls, message: MessageExt, topic: str, queue_id: int) -> Draft:
        """A stored message on its way to another place; its properties are shared."""
        return cls(
            topic,
            queue_id,
            message.body,
            message.properties,
            message.sys_flag,
            message.flag,
            message.born_timestamp,
            message.origin.born_host,
            message.reconsume_times,
        )


class Intake:
    """Takes messages in.

    :param store: the broker's messages.
    :param timers: run what is due.
    :param clock: the time.
    :param levels: seconds of the delay levels, from level 1 on.
    """

    def __init__(self, store: MessageStore, timers: Timers, clock: Clock, levels: Sequence[float] = DELAY_LEVELS) -> None:
        self._store = store
        self._timers = timers
        self._clock = clock
        self._levels = levels
        self._timed: dict[tuple[str, str | None], Timer] = {}
        #: Commit log offsets of messages that waited and do so no longer.
        self.delivered: Table[int, bool] = Table()

    def put(self, draft: Draft) -> Stored:
        """Store a message, or the one that stands for it while it waits; never blocks.

        :param draft: its topic, queue and properties are changed when it has to wait.
        :raises Refused: with code 13, for a message no broker stores.
        """
        if _DELAYING.isdisjoint(draft.properties):
            return self.put_plain(draft)
        seconds = self._wait(draft)
        if seconds is None:
            return self.put_plain(draft)
        stored = self.put_plain(draft)
        self._let_wait(replace(draft, properties=dict(draft.properties)), stored.commit_log_offset, seconds)
        return stored

    def _let_wait(self, waiting: Draft, start: int, seconds: float) -> None:
        timer = self._timers.after(seconds, self._deliver, waiting, start)
        if waiting.topic == TIMER_TOPIC:
            waiting.properties[Property.TIMER_ENQUEUE_MS] = str(self._clock.now_ms() // _TIMER_STEP_MS * _TIMER_STEP_MS)
            self._timed[_timer_key(waiting)] = timer

    def load(self) -> None:
        """Let all messages wait that the store holds and that have not been delivered; never blocks."""
        for (topic, queue_id), queue in list(self._store.queues.items()):
            if topic not in (SCHEDULE_TOPIC, TIMER_TOPIC):
                continue
            for frame in queue.frames():
                message = decode_message(frame, decompress=False)
                if message.commit_log_offset not in self.delivered:
                    draft = Draft.of(message, topic, queue_id)
                    due = self._due_ms(draft, message.store_timestamp)
                    self._let_wait(draft, message.commit_log_offset, max(0, due - self._clock.now_ms()) / 1000)

    def _due_ms(self, waiting: Draft, stored_at: int) -> int:
        """When a message that waits is to be delivered."""
        properties = waiting.properties
        if waiting.topic == TIMER_TOPIC:
            return int(properties[Property.TIMER_OUT_MS]) + _TIMER_STEP_MS
        level = min(waiting.queue_id, len(self._levels) - 1)
        return stored_at + round(self._levels[level] * 1000)

    def recall(self, topic: str, unique_id: str) -> None:
        """Never deliver a message that waits for a point in time; never blocks.  Others are left alone, as a broker does.

        :param topic: its own topic.
        :param unique_id: the id its sender gave it.
        """
        timer = self._timed.pop((topic, unique_id), None)
        if timer is not None:
            self.delivered[timer.args[1]] = True
            timer.cancel()

    def put_plain(self, draft: Draft) -> Stored:
        """Store a message whatever its properties say of a delay: one of a batch; never blocks.

        :raises Refused: as :meth:`put`.
        """
        properties = draft.properties
        try:
            return self._store.put(
                draft.topic,
                draft.queue_id,
                draft.body,
                encode_properties(properties),
                tags_code(properties.get(Property.TAGS)),
                sys_flag=draft.sys_flag,
                flag=draft.flag,
                born_timestamp=draft.born_timestamp,
                born_host=draft.born_host,
                reconsume_times=draft.reconsume_times,
                prepared_transaction_offset=draft.prepared_transaction_offset,
            )
        except LocalProtocolError as error:
            raise Refused(ResponseCode.MESSAGE_ILLEGAL, ILLEGAL) from error

    def _wait(self, draft: Draft) -> float | None:
        """Send the draft to the topic where it waits.

        :returns: how long it is to wait, None when it need not.
        """
        properties = draft.properties
        level = _number(properties.get(Property.DELAY_TIME_LEVEL, "0"))
        if level > 0:
            for name in _TIMER_NAMES:
                properties.pop(name, None)
            level = min(level, len(self._levels))
            properties[Property.DELAY_TIME_LEVEL] = str(level)
            self._redirect(draft, SCHEDULE_TOPIC, level - 1)
            return self._levels[level - 1]
        deliver_at = self._deliver_at(properties)
        if deliver_at is None or deliver_at <= (now := self._clock.now_ms()):
            return None
        if deliver_at - now > MAX_TIMER_DELAY * 1000:
            raise Refused(ResponseCode.MESSAGE_ILLEGAL, _ILLEGAL_TIMER)
        deliver_at = (deliver_at - 1) // _TIMER_STEP_MS * _TIMER_STEP_MS
        properties[Property.TIMER_OUT_MS] = str(deliver_at)
        self._redirect(draft, TIMER_TOPIC, 0)
        return max(0, deliver_at + _TIMER_STEP_MS - now) / 1000

    def _deliver_at(self, properties: dict[str, str]) -> int | None:
        if Property.TIMER_OUT_MS in properties:
            return None
        if (seconds := properties.get(Property.TIMER_DELAY_SEC)) is not None:
            return self._clock.now_ms() + _number(seconds) * 1000
        if (millis := properties.get(Property.TIMER_DELAY_MS)) is not None:
            return self._clock.now_ms() + _number(millis)
        deliver_at = properties.get(Property.TIMER_DELIVER_MS)
        return None if deliver_at is None else _number(deliver_at)

    def _redirect(self, draft: Draft, topic: str, queue_id: int) -> None:
        draft.properties[Property.REAL_TOPIC] = draft.topic
        draft.properties[Property.REAL_QUEUE_ID] = str(draft.queue_id)
        draft.topic, draft.queue_id = topic, queue_id

    def _deliver(self, draft: Draft, start: int) -> None:
        """Store a message whose time has come; it keeps what told of the delay, as real brokers leave it."""
        properties = draft.properties
        if draft.topic == TIMER_TOPIC:
            self._timed.pop(_timer_key(draft), None)
            properties[Property.TIMER_DEQUEUE_MS] = str(self._clock.now_ms())
        draft.topic, draft.queue_id = properties[Property.REAL_TOPIC], int(properties[Property.REAL_QUEUE_ID])
        self.delivered[start] = True
        self.put_plain(draft)


def _timer_key(draft: Draft) -> tuple[str, str | None]:
    return draft.properties[Property.REAL_TOPIC], draft.properties.get(Property.UNIQ_KEY)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Refused(ResponseCode.MESSAGE_ILLEGAL, _ILLEGAL_TIMER) from None
