"""Message trace: tells the trace topic what happened to each message, for operators to look up by its id.

Records wait in memory, some thousand at most, and are sent by a greenlet, many in one message.  A send or a listener never
waits for them: when there is no room, or they cannot be sent, they are dropped and counted.

Source: Apache RocketMQ 5.3.3, module client, classes ``AsyncTraceDispatcher``, ``SendMessageTraceHookImpl``,
``ConsumeMessageTraceHookImpl``, ``EndTransactionTraceHookImpl``.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from contextlib import suppress
from dataclasses import replace
from enum import IntEnum
from time import time_ns
from typing import Any

from gevent.event import Event

from grocketmq.client.base import BaseClient
from grocketmq.client.instance import ClientInstance
from grocketmq.codes import RequestCode
from grocketmq.errors import GRocketMQError
from grocketmq.hooks import ConsumeMessageContext, Hooks, SendMessageContext
from grocketmq.model.message import DELAY_PROPERTIES, Message, MessageExt
from grocketmq.model.namespace import DEFAULT_TOPIC
from grocketmq.model.properties import Property, encode_properties
from grocketmq.model.results import LocalTransactionState, SendStatus
from grocketmq.model.route import MessageQueue
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire.send_command import SendTemplate, send_fields
from grocketmq.wire.trace_codec import TraceBean, TraceContext, TraceMessageType, TraceType, encode_trace, trace_keys

__all__ = ["Trace", "TracedClient"]

log = logging.getLogger(__name__)

#: Records that may wait.
MAX_WAITING = 2048
#: Records in one trace message.
MAX_RECORDS = 100
#: No record is added to a text of so many characters, nor when half of the bytes for ids and keys are used.
MAX_TEXT = 128_000
MAX_KEY_BYTES = 30_000
#: Messages of a listener call in one record.
MAX_BEANS = 100
#: Seconds a record waits for others.
LINGER = 1.0
#: Seconds for sending one trace message, both its tries together.
SEND_TIMEOUT = 5.0
_TRIES = 2
#: Queues of the trace topic if a broker has to create it.
_QUEUES = 4
_GROUP_PREFIX = "_INNER_TRACE_PRODUCER"
_DEFAULT_REGION = "DefaultRegion"


class _ConsumeReturnType(IntEnum):
    """How a listener call ended, as Java numbers it."""

    SUCCESS = 0
    EXCEPTION = 2
    FAILED = 4


class Trace:
    """The trace of one client; a hook among its others.  Belongs to the hub in which it was made.

    :param group: the client's group.
    :param instance: its instance.
    :param topic: where records go.
    """

    def __init__(self, group: str, instance: ClientInstance, topic: str) -> None:
        #: Records that were lost, for want of room or because no broker took them.
        self.dropped = 0
        self._group = group
        self._instance = instance
        self._topic = topic
        self._waiting: deque[TraceContext] = deque()
        self._some = Event()
        self._many = Event()
        self._closing = False
        self._failing = False
        self._tasks = TaskGroup(f"trace of {group}")
        self._tasks.loop("send traces", self._run)

    def report(self) -> dict[str, Any]:
        """What :meth:`~grocketmq.client.base.BaseClient.debug_dump` tells of it."""
        return {**self._tasks.report(), "waiting": len(self._waiting), "dropped": self.dropped}

    # -- what is recorded ----------------------------------------------------------------------------------------------------

    def after_send(self, context: SendMessageContext) -> None:
        """Record each message that was stored; what got no answer has no id at its broker, and is not recorded."""
        result = context.result
        if result is None or context.message.topic == self._topic:
            return
        offset_ids = (result.offset_msg_id or "").split(",")
        if len(offset_ids) != len(context.messages):
            offset_ids = [result.offset_msg_id] * len(context.messages)
        for message, offset_id in zip(context.messages, offset_ids, strict=True):
            bean = self._sent(message, result.message_queue, context.transactional)
            bean.offset_msg_id = offset_id
            self._add(
                TraceContext(
                    TraceType.PUB,
                    context.born_timestamp,
                    result.region_id,
                    self._group,
                    round(context.seconds * 1000),
                    result.status is SendStatus.SEND_OK,
                    beans=[bean],
                )
            )

    def before_consume(self, context: ConsumeMessageContext) -> None:
        """Record that messages were given to the listener."""
        traced = [message for message in context.messages if self._is_traced(message)]
        if traced:
            region = traced[0].properties.get(Property.MSG_REGION, _DEFAULT_REGION)
            request_id = self._instance.unique_ids.make(time_ns() // 1_000_000)
            told = TraceContext(TraceType.SUB_BEFORE, time_ns() // 1_000_000, region, self._group, request_id=request_id)
            told.beans = [_consumed(message) for message in traced]
            context.data[self] = told
            self._add_parts(told)

    def after_consume(self, context: ConsumeMessageContext) -> None:
        """Record how it ended."""
        told: TraceContext | None = context.data.get(self)
        if told is None:
            return
        code = _ConsumeReturnType.SUCCESS
        if not context.success:
            code = _ConsumeReturnType.EXCEPTION if context.error is not None else _ConsumeReturnType.FAILED
        self._add_parts(
            TraceContext(
                TraceType.SUB_AFTER,
                told.timestamp,
                told.region_id,
                self._group,
                round(context.seconds * 1000 / len(context.messages)),
                context.success,
                told.request_id,
                code,
                beans=told.beans,
            )
        )

    def end_transaction(
        self,
        message: Message,
        msg_id: str,
        transaction_id: str | None,
        state: LocalTransactionState,
        address: str,
        *,
        from_check: bool,
    ) -> None:
        """Record that a broker was told how a transaction ended; never blocks.

        :param message: the half message.
        :param msg_id: its unique id.
        :param transaction_id: its transaction's.
        :param state: how it ended.
        :param address: the broker's.
        :param from_check: whether the broker had asked.
        """
        bean = TraceBean(message.topic, msg_id, tags=message.tags, keys=message.keys, store_host=address)
        bean.msg_type = TraceMessageType.TRANSACTION_COMMIT
        bean.transaction_id = transaction_id
        bean.transaction_state = state
        bean.from_transaction_check = from_check
        region = message.properties.get(Property.MSG_REGION, _DEFAULT_REGION)
        self._add(TraceContext(TraceType.END_TRANSACTION, time_ns() // 1_000_000, region, self._group, beans=[bean]))

    def _sent(self, message: Message, queue: MessageQueue, transactional: bool) -> TraceBean:
        properties = message.properties
        kind = TraceMessageType.NORMAL
        if transactional:
            kind = TraceMessageType.TRANSACTION_HALF
        elif not DELAY_PROPERTIES.isdisjoint(properties):
            kind = TraceMessageType.DELAY
        return TraceBean(
            message.topic,
            properties.get(Property.UNIQ_KEY),
            tags=message.tags,
            keys=message.keys,
            store_host=self._instance.routes.master(queue.broker_name) or "",
            body_length=len(message.body),
            msg_type=kind,
        )

    def _is_traced(self, message: MessageExt) -> bool:
        return message.properties.get(Property.TRACE_SWITCH) != "false" and message.topic != self._topic

    def _add_parts(self, record: TraceContext) -> None:
        for start in range(0, len(record.beans), MAX_BEANS):
            self._add(replace(record, beans=record.beans[start : start + MAX_BEANS]))

    def _add(self, record: TraceContext) -> None:
        if self._closing or len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        self._waiting.append(record)
        if not self._some.is_set():
            self._some.set()
        if len(self._waiting) >= MAX_RECORDS and not self._many.is_set():
            self._many.set()

    # -- how it is sent ------------------------------------------------------------------------------------------------------

    def close(self, deadline: Deadline) -> None:
        """Send what waits and end; blocks at most until the deadline, what is left then is dropped."""
        self._closing = True
        self._some.set()
        self._many.set()
        self._tasks.join(deadline.remaining())
        self._tasks.kill()
        self.dropped += len(self._waiting)
        self._waiting.clear()
        if self.dropped:
            log.warning("%d trace records of group %s were dropped", self.dropped, self._group)

    def _run(self) -> None:
        while not self._closing or self._waiting:
            self._some.wait()
            self._many.wait(LINGER)
            while self._waiting:
                self._send_some()
                if len(self._waiting) < MAX_RECORDS and not self._closing:
                    break
            if not self._closing:
                self._many.clear()
                if not self._waiting:
                    self._some.clear()

    def _send_some(self) -> None:
        records, text, keys = self._take()
        try:
            self._send(text, keys)
            self._failing = False
        except GRocketMQError as error:
            self.dropped += records
            if not self._failing:
                self._failing = True
                log.warning("trace records go to %s and are dropped while that fails: %s", self._topic, error)
        except BaseException:
            self.dropped += records
            raise

    def _take(self) -> tuple[int, str, str]:
        """Records for one message: how many, their text, and the keys by which they are found."""
        texts: list[str] = []
        keys: dict[str, None] = {}
        size = key_size = records = 0
        while self._waiting and records < MAX_RECORDS and size < MAX_TEXT and key_size < MAX_KEY_BYTES // 2:
            record = self._waiting.popleft()
            records += 1
            texts.append(encode_trace(record))
            size += len(texts[-1])
            for key in trace_keys([record]):
                width = len(key.encode()) + 1
                if key not in keys and key_size + width <= MAX_KEY_BYTES:
                    keys[key] = None
                    key_size += width
        return records, "".join(texts), " ".join(keys)

    def _send(self, text: str, keys: str) -> None:
        instance, deadline = self._instance, Deadline(SEND_TIMEOUT)
        msg_id = instance.unique_ids.make(time_ns() // 1_000_000)
        properties = {Property.KEYS: keys, Property.UNIQ_KEY: msg_id, Property.WAIT_STORE_MSG_OK: "true"}
        body = text.encode("utf-8", "replace")
        for left in reversed(range(_TRIES)):
            queues = instance.publish_info(self._topic, _QUEUES, deadline).queues
            queue = random.choice(queues)
            try:
                address = instance.master_address(queue, deadline)
                group = f"{_GROUP_PREFIX}-{self._group}"
                fields = send_fields(group, self._topic, queue.broker_name, default_topic=DEFAULT_TOPIC, queue_nums=_QUEUES)
                template = SendTemplate(RequestCode.SEND_MESSAGE_V2, fields)
                now_ms = time_ns() // 1_000_000
                command = template.command(queue.queue_id, 0, now_ms, 0, encode_properties(properties), 0, body)
                instance.api.send(address, command, queue, msg_id, Deadline(deadline.remaining() / (left + 1)))
                return
            except GRocketMQError as error:
                if not left:
                    raise
                if error.refresh_route:
                    with suppress(GRocketMQError):  # then the old one has to do
                        instance.refresh_route(self._topic, deadline.remaining())


def _consumed(message: MessageExt) -> TraceBean:
    return TraceBean(
        message.topic,
        message.msg_id,
        tags=message.tags,
        keys=message.keys,
        body_length=message.store_size,
        retry_times=message.reconsume_times,
    )


class TracedClient(BaseClient):
    """Common part of clients that have hooks, of which the trace is one.

    :param group: the group's name.
    :param config: the common settings.
    """

    def _renew(self) -> None:
        super()._renew()
        self._hooks = Hooks(self._config.hooks)
        self._trace: Trace | None = None

    @property
    def trace_dropped(self) -> int:
        """Trace records that were lost, for want of room or because no broker took them; 0 without ``trace=True``."""
        return 0 if self._trace is None else self._trace.dropped

    def _debug(self) -> dict[str, Any]:
        return {**super()._debug(), **({} if self._trace is None else {"trace": self._trace.report()})}

    def _start_hooks(self, instance: ClientInstance) -> None:
        """With the instance, before the client's work begins."""
        if self._config.trace:
            self._trace = Trace(self._group, instance, self._config.trace_topic)
            self._hooks = Hooks((*self._config.hooks, self._trace))
        self._hooks.starting(self)

    def _stop_trace(self, deadline: Deadline) -> None:
        """After the client's work has ended, while its instance lives."""
        if self._trace is not None:
            self._trace.close(deadline)
