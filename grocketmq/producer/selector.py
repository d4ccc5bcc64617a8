"""Which queue a message goes to, when the sender cares.

A selector is any ``callable(queues, msg, arg) -> MessageQueue``; ``queues`` is never empty.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from grocketmq.errors import ConfigError, MessageError
from grocketmq.hashing import java_hash_index, java_long_hash, java_string_hash, sharding_hash
from grocketmq.model.message import Message
from grocketmq.model.route import MessageQueue, TopicPublishInfo

__all__ = ["QueueSelector", "choose_queue", "select_queue_by_hash", "select_queue_by_java_hash", "select_queue_by_random"]

QueueSelector = Callable[[Sequence[MessageQueue], Message, object], MessageQueue]


def select_queue_by_hash(queues: Sequence[MessageQueue], msg: Message, arg: object) -> MessageQueue:
    """The same queue for the same ``str(arg)`` while the number of queues stays, by murmur3.  Never blocks.

    :param queues: the topic's queues.
    :param msg: not looked at.
    :param arg: the sharding key.

    Source: Apache RocketMQ 5.3.3, module common, class ``MessageUtils`` (``getShardingKeyIndex``).
    """
    return queues[java_hash_index(sharding_hash(str(arg)), len(queues))]


def select_queue_by_java_hash(queues: Sequence[MessageQueue], msg: Message, arg: object) -> MessageQueue:
    """The queue that Java's ``SelectMessageQueueByHash`` takes for this key, for fleets that share it.  Never blocks.

    :param queues: the topic's queues.
    :param msg: not looked at.
    :param arg: a string, or an integer that Java would hand over as ``Integer`` or ``Long``.
    """
    value = java_long_hash(arg) if isinstance(arg, int) else java_string_hash(str(arg))
    return queues[java_hash_index(value, len(queues))]


def select_queue_by_random(queues: Sequence[MessageQueue], msg: Message, arg: object) -> MessageQueue:
    """Any queue, by chance.  Never blocks.

    :param queues: the topic's queues.
    :param msg: not looked at.
    :param arg: not looked at.
    """
    return random.choice(queues)


def choose_queue(
    msg: Message, info: TopicPublishInfo, queue: MessageQueue | None, selector: QueueSelector | None, arg: object
) -> MessageQueue | None:
    """The queue that the sender of a message wants; blocks only if the selector does.

    :param msg: the message.
    :param info: its topic's queues.
    :param queue: the one that was named.
    :param selector: what chooses one.
    :param arg: handed to the selector.
    :returns: None when any will do.
    :raises ConfigError: when both were given.
    :raises MessageError: for what is no queue, and for a queue of another topic.
    """
    if selector is None:
        chosen = queue
    elif queue is not None:
        raise ConfigError("give queue or selector, not both")
    else:
        chosen = selector(info.queues, msg, arg)
    if chosen is None and selector is None:
        return None
    if not isinstance(chosen, MessageQueue):
        whence = "queue is" if selector is None else "the selector returned"
        raise MessageError(f"{whence} {chosen!r:.80}, not one of the queues of topic {info.topic}")
    if chosen.topic != info.topic:
        raise MessageError(f"the message of topic {info.topic} cannot go to a queue of topic {chosen.topic}")
    return chosen
