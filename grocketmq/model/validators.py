"""What brokers would refuse, refused before it is sent.

Every check costs well below a microsecond for a name it has seen before.

Source: Apache RocketMQ 5.3.3, module client, class ``Validators``; module common, classes ``TopicValidator``, ``MessageBatch``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from grocketmq.errors import ConfigError, MessageError
from grocketmq.model.message import Message, check_flag
from grocketmq.model.namespace import TRANS_CHECK_MAX_TIME_TOPIC, TRANS_HALF_TOPIC, is_retry_topic, is_system_topic
from grocketmq.model.properties import Property

__all__ = [
    "MAX_GROUP_LENGTH",
    "MAX_MESSAGE_BYTES",
    "MAX_TOPIC_LENGTH",
    "NO_SEND_TOPICS",
    "check_batch",
    "check_client_group",
    "check_group",
    "check_message",
    "check_not_system_topic",
    "check_topic",
]

#: So that its length fits the signed byte of a v1 stored message.
MAX_TOPIC_LENGTH = 127
#: Newer brokers (5.5.0 is one) create groups of at most 120 characters, and refuse longer ones themselves.
MAX_GROUP_LENGTH = 255
#: What brokers take by default (``maxMessageSize``).
MAX_MESSAGE_BYTES = 4 * 1024 * 1024

#: System topics that only brokers write to.
NO_SEND_TOPICS = frozenset(
    {
        "SCHEDULE_TOPIC_XXXX",
        TRANS_HALF_TOPIC,
        "RMQ_SYS_TRANS_OP_HALF_TOPIC",
        TRANS_CHECK_MAX_TIME_TOPIC,
        "SELF_TEST_TOPIC",
        "OFFSET_MOVED_EVENT",
    }
)

#: Groups that Java's clients have when nobody chose one; sharing them mixes unrelated programs.
_DEFAULT_GROUPS = frozenset({"DEFAULT_PRODUCER", "DEFAULT_CONSUMER"})

#: Names a process uses are few; the bound only keeps a flood of random ones from filling the memory.
_CACHE_SIZE = 4096

_LEGAL_NAME = re.compile(r"[%|a-zA-Z0-9_-]+")


def check_topic(topic: str) -> None:
    """Refuse a topic that no broker would create.

    :param topic: its full name.
    :raises ConfigError: when it is blank, longer than 127 characters, or holds others than letters, digits and ``% | _ -``.
    """
    fault = _name_fault("topic", topic, MAX_TOPIC_LENGTH)
    if fault:
        raise ConfigError(fault)


def check_not_system_topic(topic: str) -> None:
    """Refuse a topic that belongs to the brokers, as a name for a topic of one's own.

    :param topic: its full name.
    :raises ConfigError: when it is one.
    """
    if not isinstance(topic, str):
        raise ConfigError(f"topic must be a str, not {type(topic).__name__}")
    if is_system_topic(topic):
        raise ConfigError(f"topic {topic} belongs to the brokers; choose another name")


def check_group(group: str) -> None:
    """Refuse a group that no broker would take.

    :param group: its full name.
    :raises ConfigError: when it is blank, longer than 255 characters, or holds others than letters, digits and ``% | _ -``.
    """
    fault = _name_fault("group", group, MAX_GROUP_LENGTH)
    if fault:
        raise ConfigError(fault)


def check_client_group(group: str) -> None:
    """Refuse what :func:`check_group` refuses, and the groups that Java's clients have by default.

    :param group: its full name.
    :raises ConfigError: when it is one of those.
    """
    check_group(group)
    if group in _DEFAULT_GROUPS:
        raise ConfigError(f"group {group} is the default of unrelated programs; choose a name of your own")


def check_message(message: Message, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
    """Refuse a message that no broker would take.

    :param message: the message, its body not packed yet.
    :param max_bytes: the largest body.
    :raises MessageError: for another type, a topic that is not legal or not to be sent to, a body that is empty or too large.
    """
    if not isinstance(message, Message):
        raise MessageError(f"a Message is needed, not {type(message).__name__}")
    topic: object = message.topic
    fault = _target_fault(topic) if isinstance(topic, str) else _name_fault("topic", topic, 0)
    if fault:
        raise MessageError(fault)
    body = message.body
    if not isinstance(body, bytes):
        raise MessageError(f"message of topic {topic}: the body is {type(body).__name__}, not bytes")
    size = len(body)
    if not size:
        raise MessageError(f"message of topic {topic} has an empty body, which brokers refuse")
    if size > max_bytes:
        raise MessageError(f"message of topic {topic}: body of {size} bytes is larger than {max_bytes}")
    if message.flag:
        check_flag(message.flag)


def check_batch(messages: Sequence[Message]) -> None:
    """Refuse a list that cannot travel as one batch; the messages themselves and their total size are not looked at.

    :param messages: the messages of the batch.
    :raises MessageError: when there is none, one has a delay level or goes to a retry topic, or they differ in topic or in
        ``wait_store_ok``.
    """
    if not messages:
        raise MessageError("a batch holds at least one message")
    topic, wait = messages[0].topic, messages[0].properties.get(Property.WAIT_STORE_MSG_OK)
    if is_retry_topic(topic):
        raise MessageError(f"topic {topic} is a retry topic, which takes no batches")
    for message in messages:
        properties = message.properties
        if Property.DELAY_TIME_LEVEL in properties and message.delay_level > 0:
            raise MessageError(f"a batch of topic {topic} holds a message with a delay level, which brokers refuse")
        if message.topic != topic:
            raise MessageError(f"a batch goes to one topic, not to {topic} and {message.topic}")
        if properties.get(Property.WAIT_STORE_MSG_OK) != wait:
            raise MessageError(f"a batch of topic {topic} mixes messages with and without wait_store_ok")


@lru_cache(_CACHE_SIZE)
def _target_fault(topic: str) -> str:
    """What is wrong with sending to a topic, ``""`` if nothing is; asked for every message."""
    if topic in NO_SEND_TOPICS:
        return f"topic {topic} is written by brokers only"
    return _text_fault("topic", topic, MAX_TOPIC_LENGTH)


def _name_fault(what: str, name: object, limit: int) -> str:
    """What is wrong with a name, ``""`` if nothing is."""
    if not isinstance(name, str):
        return f"{what} must be a str, not {type(name).__name__}"
    return _text_fault(what, name, limit)


@lru_cache(_CACHE_SIZE)
def _text_fault(what: str, name: str, limit: int) -> str:
    if not name or name.isspace():
        return f"{what} is blank"
    if len(name) > limit:
        return f"{what} {name[:limit]!r}... is longer than {limit} characters"
    if not _LEGAL_NAME.fullmatch(name):
        return f"{what} {name!r} holds other characters than letters, digits and % | _ -"
    return ""
