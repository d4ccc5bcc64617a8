"""A message made ready for the wire, once for all tries."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from time import time_ns

from grocketmq.client.packing import pack
from grocketmq.codes import RequestCode
from grocketmq.errors import LocalProtocolError, MessageError
from grocketmq.model.message import DELAY_PROPERTIES, TIMER_PROPERTIES, Message
from grocketmq.model.message_id import UniqueIdGenerator
from grocketmq.model.namespace import DEFAULT_TOPIC
from grocketmq.model.properties import Property, checked_properties, encode_properties
from grocketmq.model.validators import check_batch, check_message
from grocketmq.producer.config import ProducerConfig
from grocketmq.wire.flags import MessageSysFlag
from grocketmq.wire.message_codec import encode_batch
from grocketmq.wire.request_template import PreparedCommand
from grocketmq.wire.send_command import SendTemplate, send_fields

__all__ = ["NOT_IN_BATCHES", "REPLY", "Outgoing", "OutgoingMaker"]

#: Templates kept at most: a program that makes topics without end must not fill the memory with them.
_MAX_TEMPLATES = 4096
#: Reading a member of an enumeration costs five times a global.
_SEND = RequestCode.SEND_MESSAGE_V2

#: Properties of messages that take another way than most.
_UNCOMMON = TIMER_PROPERTIES | {Property.MESSAGE_TYPE}
#: The type of messages that are replies.
REPLY = "reply"
#: What a broker cannot do, or would not, with messages that are stored together.
NOT_IN_BATCHES = DELAY_PROPERTIES | {Property.TRANSACTION_PREPARED, Property.MESSAGE_TYPE}


@dataclass(slots=True)
class Outgoing:
    """What every try of one send has in common.

    :param message: what the caller gave; a selector looks at it.
    :param msg_id: the id it was given; of a batch, all ids joined by commas.
    :param body: packed.
    :param sys_flag: how it is packed.
    :param properties: as text.
    :param code: the request it travels in.
    :param timed: whether a broker is to keep it until a point in time.
    """

    message: Message
    msg_id: str
    body: bytes
    sys_flag: int
    properties: str
    code: RequestCode
    timed: bool = False


class OutgoingMaker:
    """Checks messages, gives them their id, packs them and writes their requests.

    :param group: the producer's group.
    :param config: the producer's settings.
    :param unique_ids: where ids come from.
    :param unit_mode: whether the client belongs to a unit.
    """

    def __init__(self, group: str, config: ProducerConfig, unique_ids: UniqueIdGenerator, unit_mode: bool) -> None:
        self._group = group
        self._config = config
        self._unique_ids = unique_ids
        self._unit_mode = unit_mode
        self._templates: dict[tuple[RequestCode, str, str], SendTemplate] = {}

    def message(self, message: Message) -> Outgoing:
        """Make one message ready; blocks only while a large body is compressed in the thread pool.

        The id stays in the message's properties, so a message that is sent twice keeps it.

        :raises MessageError: when no broker would take it.
        """
        config = self._config
        check_message(message, config.max_message_size)
        body, sys_flag = message.body, 0
        if len(body) >= config.compress_above:
            body, sys_flag = self._pack(body)
        properties = message.properties
        msg_id = self._give_id(properties)
        outgoing = Outgoing(message, msg_id, body, sys_flag, checked_properties(message.topic, properties), _SEND)
        if not _UNCOMMON.isdisjoint(properties):
            outgoing.timed = not TIMER_PROPERTIES.isdisjoint(properties)
            if properties.get(Property.MESSAGE_TYPE) == REPLY:
                outgoing.code = RequestCode.SEND_REPLY_MESSAGE_V2
        return outgoing

    def message_with(self, message: Message, properties: Mapping[str, str], without: Collection[str] = frozenset()) -> Outgoing:
        """As :meth:`message`, with properties that only this send has; the caller's message gets its id and nothing else.

        :param properties: names and values to add.
        :param without: names to leave out.
        """
        outgoing = self.message(message)
        sent = {name: value for name, value in message.properties.items() if name not in without}
        sent.update(properties)
        outgoing.properties = checked_properties(message.topic, sent)
        outgoing.timed = not TIMER_PROPERTIES.isdisjoint(sent)
        return outgoing

    def batch(self, messages: Sequence[Message]) -> Outgoing:
        """Make several messages of one topic ready as one; never blocks.

        :raises MessageError: when they cannot travel together, or are too large together.
        """
        for message in messages:
            check_message(message, self._config.max_message_size)
            if not NOT_IN_BATCHES.isdisjoint(message.properties):
                raise MessageError(f"a batch of topic {message.topic} holds a delayed or transactional message, or a reply")
        check_batch(messages)
        ids = ",".join([self._give_id(message.properties) for message in messages])
        try:
            body = encode_batch(messages)
        except LocalProtocolError as error:
            raise MessageError(str(error)) from error
        if len(body) > self._config.max_message_size:
            raise MessageError(
                f"a batch of {len(messages)} messages takes {len(body)} bytes, more than "
                f"max_message_size={self._config.max_message_size}; cut it with split_batch"
            )
        whole = Message(messages[0].topic, body, wait_store_ok=messages[0].wait_store_ok)
        return Outgoing(whole, ids, body, 0, encode_properties(whole.properties), RequestCode.SEND_BATCH_MESSAGE)

    def command(self, outgoing: Outgoing, broker_name: str, queue_id: int) -> PreparedCommand:
        """The request of one try; never blocks."""
        message = outgoing.message
        key = (outgoing.code, message.topic, broker_name)
        template = self._templates.get(key) or self._new_template(key)
        now_ms = time_ns() // 1_000_000
        return template.command(queue_id, outgoing.sys_flag, now_ms, message.flag, outgoing.properties, 0, outgoing.body)

    def _give_id(self, properties: dict[str, str]) -> str:
        msg_id = properties.get(Property.UNIQ_KEY)
        if msg_id is None:
            msg_id = properties[Property.UNIQ_KEY] = self._unique_ids.make(time_ns() // 1_000_000)
        return msg_id

    def _pack(self, body: bytes) -> tuple[bytes, int]:
        """The body as it travels, and the flag that says how."""
        config = self._config
        kind = config.compression_type
        return pack(kind, body, config.compress_level), MessageSysFlag.COMPRESSED | kind.sys_flag

    def _new_template(self, key: tuple[RequestCode, str, str]) -> SendTemplate:
        code, topic, broker_name = key
        if len(self._templates) >= _MAX_TEMPLATES:
            self._templates.clear()
        fields = send_fields(
            self._group,
            topic,
            broker_name,
            default_topic=DEFAULT_TOPIC,
            queue_nums=self._config.default_topic_queues,
            unit_mode=self._unit_mode,
            batch=code is RequestCode.SEND_BATCH_MESSAGE,
        )
        template = self._templates[key] = SendTemplate(code, fields)
        return template
