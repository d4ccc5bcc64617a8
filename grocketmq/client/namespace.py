"""Namespaces: clients of one share topics and groups with nobody else.

Nothing else in a client knows of them.  Names get the namespace when a request leaves and lose it when an answer comes in, so
routes, queues, offsets and messages carry the names that the user gave.

*In names* (``namespace=``, every release): the topic or group ``name`` is ``ns%name`` to brokers.

*In fields* (``namespace_v2=``, for servers that know it): names travel as they are, and two fields say whose they are.

Source: Apache RocketMQ 5.3.3, module client, classes ``ClientConfig``, ``DefaultMQProducerImpl``, ``NamespaceRpcHook``; module
remoting, class ``NamespaceUtil``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from grocketmq.codes import RequestCode
from grocketmq.model.message import MessageExt
from grocketmq.model.namespace import RETRY_PREFIX, normal_topic, without_namespace, wrap_namespace
from grocketmq.model.properties import Property, decode_properties, encode_properties
from grocketmq.wire.command import RemotingCommand

__all__ = ["Namespace"]

#: Header fields that hold a topic or a group.
_FIELDS = ("topic", "originTopic", "consumerGroup", "producerGroup", "group")
#: The same of sends, whose names are a letter, and where they have the message's properties.
_SHORT_FIELDS = ("a", "b")
_SHORT = (RequestCode.SEND_MESSAGE_V2, RequestCode.SEND_BATCH_MESSAGE, RequestCode.SEND_REPLY_MESSAGE_V2)
_PROPERTIES = {
    **dict.fromkeys(_SHORT, "i"),
    RequestCode.SEND_MESSAGE: "properties",
    RequestCode.SEND_REPLY_MESSAGE: "properties",
}
#: Properties that hold a topic or a group.
_NAMING = (Property.RETRY_TOPIC, Property.REAL_TOPIC, Property.PRODUCER_GROUP)
#: Requests whose own body, or whose answer's, is messages; all others are JSON.
_CARRY_MESSAGES = frozenset(
    {
        *_PROPERTIES,
        RequestCode.PULL_MESSAGE,
        RequestCode.LITE_PULL_MESSAGE,
        RequestCode.POP_MESSAGE,
        RequestCode.PEEK_MESSAGE,
        RequestCode.QUERY_MESSAGE,
        RequestCode.VIEW_MESSAGE_BY_ID,
        RequestCode.CHECK_TRANSACTION_STATE,
        RequestCode.CONSUME_MESSAGE_DIRECTLY,
        RequestCode.PUSH_REPLY_MESSAGE_TO_CLIENT,
    }
)
#: Topics and groups in JSON.  Within a text a quote has a backslash before it, so no text is taken for a field.
_IN_JSON = re.compile(rb'"(topic|group|groupName|consumerGroup|producerGroup)"(\s*:\s*)"([^"\\]+)"')
#: The same of an acknowledgement of many messages.
_IN_BATCH_ACK = re.compile(rb'"(c|t)"(\s*:\s*)"([^"\\]+)"')


class Namespace:
    """Puts the namespace on what goes out and takes it off what comes in; never blocks.

    :param name: the namespace in names, None for none.
    :param v2: the namespace in fields, None for none.
    """

    def __init__(self, name: str | None, v2: str | None) -> None:
        self.name = name
        self.v2 = v2

    def outgoing(self, request: RemotingCommand) -> None:
        """A request, before it is signed; once more does no harm."""
        fields = dict(request.ext_fields or {})
        if self.name:
            group = fields.get("consumerGroup")
            for field in _SHORT_FIELDS if request.code in _SHORT else _FIELDS:
                if value := fields.get(field):
                    fields[field] = self._wrap(value, group)
            if where := _PROPERTIES.get(request.code):  # type: ignore[call-overload]
                fields[where] = self._own_properties(fields.get(where) or "")
            if request.body and request.code not in _CARRY_MESSAGES:
                pattern = _IN_BATCH_ACK if request.code == RequestCode.BATCH_ACK_MESSAGE else _IN_JSON
                request.body = pattern.sub(self._wrap_match, request.body)
        if self.v2:
            fields.update(ns=self.v2, nsd="true")
        request.ext_fields = fields

    def incoming(self, code: int, command: RemotingCommand) -> None:
        """The answer to a request, or a request of a broker.

        :param code: the request's code.
        """
        if not self.name:
            return
        if command.ext_fields:
            for field in _FIELDS:
                if value := command.ext_fields.get(field):
                    command.ext_fields[field] = without_namespace(value, self.name)
        if command.body and code not in _CARRY_MESSAGES:
            for prefix in (b'"', b"%RETRY%", b"%DLQ%"):
                command.body = command.body.replace(prefix + self.name.encode() + b"%", prefix)

    def answered(self, answer: RemotingCommand) -> None:
        """What this client answers to a broker's request."""
        if self.name and answer.body:
            answer.body = _IN_JSON.sub(self._wrap_match, answer.body)

    def received(self, messages: Iterable[MessageExt]) -> None:
        """Messages as a broker keeps them."""
        if not self.name:
            return
        for message in messages:
            message.topic = without_namespace(message.topic, self.name)
            for name in _NAMING:
                if value := message.properties.get(name):
                    message.properties[name] = without_namespace(value, self.name)

    def _wrap(self, name: str, group: str | None) -> str:
        topic = normal_topic(name, group) if group else name
        if topic == name:
            return wrap_namespace(self.name, name)
        # Where a group's popped messages come again: both names in it have the namespace.
        separator = name[-len(topic) - 1]
        return f"{RETRY_PREFIX}{wrap_namespace(self.name, group or '')}{separator}{wrap_namespace(self.name, topic)}"

    def _own_properties(self, text: str) -> str:
        properties = decode_properties(text)
        for name in _NAMING:
            if value := properties.get(name):
                properties[name] = wrap_namespace(self.name, value)
        properties[Property.INSTANCE_ID] = self.name or ""
        return encode_properties(properties)

    def _wrap_match(self, match: re.Match[bytes]) -> bytes:
        field, colon, name = match.groups()
        return b'"%b"%b"%b"' % (field, colon, wrap_namespace(self.name, name.decode()).encode())
