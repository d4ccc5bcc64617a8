"""Acknowledges popped messages, or puts them off.

Source: Apache RocketMQ 5.3.3, module client, classes ``DefaultMQPushConsumerImpl`` (``ackAsync``,
``changePopInvisibleTimeAsync``), ``MQClientAPIImpl`` (``batchAckMessageAsync``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from gevent.event import Event
from gevent.queue import Queue

from grocketmq.client.instance import ClientInstance
from grocketmq.client.pop_api import ACK_TIMEOUT, PopAPI
from grocketmq.consumer.pop_decode import check_point_of
from grocketmq.consumer.pop_queue import BrokerClocks, PopQueue
from grocketmq.errors import GRocketMQError, UnsupportedRequestError
from grocketmq.model.message import MessageExt
from grocketmq.model.namespace import is_retry_topic
from grocketmq.model.properties import Property
from grocketmq.model.route import MessageQueue
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire.bodies import BatchAck
from grocketmq.wire.headers import AckMessageRequestHeader, ChangeInvisibleTimeRequestHeader
from grocketmq.wire.pop_info import PopCheckPoint, real_topic

__all__ = ["AckService", "PopAcks"]

log = logging.getLogger(__name__)

#: Messages in one batch acknowledgement at most.
_MAX_BATCH = 256
#: A check point covers the messages of one pop, 32 at most, but a filter may leave gaps between them.  One that lies further
#: from its start than this is acknowledged alone, so that no strange check point makes a bit set of gigabytes.
_MAX_BIT = 1 << 16
#: Seconds before an acknowledgement that got no answer is sent again.
_ACK_AGAIN = 1.0


class PopAcks:
    """The acknowledgements of one group.

    :param group: the consumer group.
    :param instance: its instance.
    :param api: makes the calls.
    :param clocks: the brokers' clocks.
    """

    def __init__(self, group: str, instance: ClientInstance, api: PopAPI, clocks: BrokerClocks) -> None:
        self._group = group
        self._instance = instance
        self._api = api
        self._clocks = clocks

    def expired(self, message: MessageExt) -> bool:
        """Whether a message's invisible time is over, so that it may have gone to another consumer; never blocks."""
        return self._clocks.expired(check_point_of(message))

    def ack(self, topic: str, message: MessageExt) -> None:
        """Acknowledge one message; blocks at most 3 s.

        :param topic: the topic that was popped.
        :param message: as it was popped.
        :raises GRocketMQError: when its broker does not confirm.
        """
        point, offset = _located(message)
        header = AckMessageRequestHeader(
            consumer_group=self._group,
            topic=self._topic_of(topic, point),
            queue_id=point.queue_id,
            extra_info=str(point),
            offset=offset,
            bname=point.broker_name,
        )
        self._api.ack(self._address(topic, point), header)

    def ack_together(self, broker_name: str, popped: Iterable[tuple[str, MessageExt]]) -> None:
        """Acknowledge messages of one broker; blocks at most 3 s, and 3 s more for each that fits into no batch.

        :param broker_name: their broker.
        :param popped: topics that were popped, and messages.
        :raises UnsupportedRequestError: when the broker knows no batches.
        :raises GRocketMQError: when the broker does not confirm.
        """
        batches: dict[tuple[str, PopCheckPoint], int] = {}
        alone = []
        for topic, message in popped:
            point, offset = _located(message)
            bit = offset - point.ck_queue_offset
            if 0 <= bit < _MAX_BIT:
                key = (topic, replace(point, queue_offset=None))
                batches[key] = batches.get(key, 0) | 1 << bit
            else:
                alone.append((topic, message))
        if batches:
            topic, point = next(iter(batches))
            acks = [self._batch_ack(topic, point, bits) for (topic, point), bits in batches.items()]
            self._api.batch_ack(self._address(topic, point), broker_name, acks)
        for topic, message in alone:
            self.ack(topic, message)

    def change_invisible(self, topic: str, message: MessageExt, seconds: float) -> None:
        """Keep a message invisible for so long from now on; blocks at most 3 s.  Its ``POP_CK`` is replaced.

        :param topic: the topic that was popped.
        :param message: as it was popped.
        :param seconds: how long; then it comes again, to any consumer of the group.
        :raises GRocketMQError: when its broker does not confirm.
        """
        point, offset = _located(message)
        header = ChangeInvisibleTimeRequestHeader(
            consumer_group=self._group,
            topic=self._topic_of(topic, point),
            queue_id=point.queue_id,
            extra_info=str(point),
            offset=offset,
            invisible_time=int(seconds * 1000),
            bname=point.broker_name,
        )
        changed = self._api.change_invisible(self._address(topic, point), header)
        self._clocks.note(point.broker_name, changed.pop_time)
        message.properties[Property.POP_CK] = str(
            replace(
                point,
                ck_queue_offset=offset,
                pop_time=changed.pop_time,
                invisible_time=changed.invisible_time,
                revive_qid=changed.revive_qid,
            )
        )

    def _batch_ack(self, topic: str, point: PopCheckPoint, bits: int) -> BatchAck:
        return BatchAck(
            self._group,
            self._topic_of(topic, point),
            "0",  # the topic is the real one, so nothing is left for the broker to make of it
            point.ck_queue_offset,
            point.queue_id,
            point.revive_qid,
            point.pop_time,
            point.invisible_time,
            bits,
        )

    def _topic_of(self, topic: str, point: PopCheckPoint) -> str:
        """The topic in which the broker finds a message: the one popped, or the retry topic that goes with it."""
        return topic if is_retry_topic(topic) else real_topic(point.retry, topic, self._group)

    def _address(self, topic: str, point: PopCheckPoint) -> str:
        queue = MessageQueue(topic, point.broker_name, point.queue_id)
        return self._instance.master_address(queue, Deadline(ACK_TIMEOUT))


def _located(message: MessageExt) -> tuple[PopCheckPoint, int]:
    point = check_point_of(message)
    assert point.queue_offset is not None
    return point, point.queue_offset


@dataclass(slots=True, eq=False)
class _Ack:
    """A message on its way to be acknowledged."""

    topic: str
    popped: PopQueue
    message: MessageExt


class AckService:
    """Acknowledges in the background: what comes together while a broker answers goes to it in one request.

    :param acks: makes the calls.
    :param tasks: owns the greenlets, one a broker.
    """

    def __init__(self, acks: PopAcks, tasks: TaskGroup) -> None:
        self._acks = acks
        self._tasks = tasks
        self._lines: dict[str, Queue[_Ack]] = {}
        self._one_by_one: set[str] = set()
        self._pending = 0
        self._idle = Event()
        self._idle.set()

    def put(self, topic: str, popped: PopQueue, messages: Iterable[MessageExt]) -> None:
        """Acknowledge messages; never blocks.  They leave the queue when that is done, or cannot be done.

        :param topic: the topic that was popped.
        :param popped: the queue that holds them.
        :param messages: what was consumed.
        """
        for message in messages:
            self._pending += 1
            self._idle.clear()
            self._line(message.broker_name).put(_Ack(topic, popped, message))

    def drain(self, deadline: Deadline) -> None:
        """Wait until everything is acknowledged; blocks at most until the deadline."""
        self._idle.wait(deadline.remaining())

    def _line(self, broker_name: str) -> Queue[_Ack]:
        line = self._lines.get(broker_name)
        if line is None:
            line = self._lines[broker_name] = Queue()
            self._tasks.loop(f"acknowledge at {broker_name}", lambda: self._run(broker_name, line))
        return line

    def _run(self, broker_name: str, line: Queue[_Ack]) -> None:
        while True:
            batch = [line.get()]
            while len(batch) < _MAX_BATCH and not line.empty():
                batch.append(line.get())
            again: list[_Ack] = []
            try:
                again = self._send(broker_name, batch)
            finally:
                self._settle([one for one in batch if one not in again])
            if again:
                self._tasks.spawn_later(_ACK_AGAIN, f"acknowledge again at {broker_name}", self._put_again, line, again)

    def _put_again(self, line: Queue[_Ack], again: list[_Ack]) -> None:
        for one in again:
            line.put(one)

    def _settle(self, done: list[_Ack]) -> None:
        for one in done:
            one.popped.release([one.message])
        self._pending -= len(done)
        if not self._pending:
            self._idle.set()

    def _send(self, broker_name: str, batch: list[_Ack]) -> list[_Ack]:
        """Acknowledge; those to try again."""
        if len(batch) > 1 and broker_name not in self._one_by_one:
            try:
                return self._try(
                    batch, lambda: self._acks.ack_together(broker_name, [(one.topic, one.message) for one in batch])
                )
            except UnsupportedRequestError:
                log.info("broker %s knows no batch acknowledgement; it gets one request a message", broker_name)
                self._one_by_one.add(broker_name)
        again = []
        for one in batch:
            again += self._try([one], lambda one=one: self._acks.ack(one.topic, one.message))  # type: ignore[misc]
        return again

    def _try(self, batch: Sequence[_Ack], call: Callable[[], None]) -> list[_Ack]:
        try:
            call()
        except UnsupportedRequestError:
            raise
        except GRocketMQError as error:
            again = [one for one in batch if error.retriable and not self._acks.expired(one.message)]
            if len(again) < len(batch):
                log.warning(
                    "%d messages were consumed, but not acknowledged, and will be delivered again; first %s: %s",
                    len(batch) - len(again),
                    batch[0].message,
                    error,
                )
            return again
        return []
