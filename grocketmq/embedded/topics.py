"""Topics of one broker, and how they come to be.

Source: Apache RocketMQ 5.3.3, module broker, classes ``TopicConfigManager``, ``AdminBrokerProcessor``; module common, class
``TopicValidator``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded.answers import success
from grocketmq.embedded.table import Table
from grocketmq.errors import ConfigError
from grocketmq.model.namespace import (
    DEFAULT_TOPIC,
    TRANS_HALF_TOPIC,
    is_dlq_topic,
    is_retry_topic,
    is_system_topic,
    reply_topic,
)
from grocketmq.model.route import Permission
from grocketmq.model.validators import MAX_TOPIC_LENGTH, check_group, check_topic
from grocketmq.remoting.server import Channel, Handler, Refused
from grocketmq.wire import bodies, headers
from grocketmq.wire.bodies import TopicConfig
from grocketmq.wire.command import RemotingCommand

__all__ = ["SCHEDULE_TOPIC", "TIMER_TOPIC", "TopicTable"]

#: Where messages with a delay level wait, one queue a level.
SCHEDULE_TOPIC = "SCHEDULE_TOPIC_XXXX"
#: Where messages with a time of delivery wait.
TIMER_TOPIC = "rmq_sys_wheel_timer"

_DEFAULT_TOPIC_QUEUES = 8
#: ``%DLQ%`` or ``%RETRY%`` and a group's name.
_MAX_RETRY_TOPIC_LENGTH = 255
_MAX_QUEUES = 1024


def _system_topics(cluster: str, broker: str, auto_create: bool) -> Iterable[TopicConfig]:
    """What every broker has from its start on: name, queues, permissions."""
    if auto_create:
        yield TopicConfig(DEFAULT_TOPIC, _DEFAULT_TOPIC_QUEUES, _DEFAULT_TOPIC_QUEUES, Permission.ALL)
    yield TopicConfig(cluster, 16, 16, Permission.ALL)
    yield TopicConfig(broker, 1, 1, Permission.ALL)
    yield TopicConfig(SCHEDULE_TOPIC, 18, 18)
    yield TopicConfig("BenchmarkTest", 1024, 1024)
    for name in (
        *("SELF_TEST_TOPIC", "OFFSET_MOVED_EVENT", TRANS_HALF_TOPIC, "RMQ_SYS_TRANS_OP_HALF_TOPIC"),
        *(reply_topic(cluster), TIMER_TOPIC),
    ):
        yield TopicConfig(name, 1, 1)


class TopicTable:
    """A broker's topics.

    :param cluster: the cluster's name, which is a topic too, as is the broker's.
    :param broker: the broker's name.
    :param auto_create: whether a send creates its topic.
    :param on_deleted: told of a topic that an operator deleted.
    """

    def __init__(self, cluster: str, broker: str, auto_create: bool, on_deleted: Callable[[str], None]) -> None:
        self.configs: Table[str, TopicConfig] = Table(
            {config.topic_name: config for config in _system_topics(cluster, broker, auto_create)}
        )
        #: Those that every broker has.
        self.own = frozenset(self.configs)
        self._on_deleted = on_deleted

    def handlers(self) -> dict[int, Handler]:
        """The requests it serves."""
        return {
            RequestCode.UPDATE_AND_CREATE_TOPIC: self._update,
            RequestCode.DELETE_TOPIC_IN_BROKER: self._delete,
            RequestCode.GET_TOPIC_CONFIG: self._get,
        }

    def get(self, topic: str) -> TopicConfig | None:
        """A topic's settings, None for one that does not exist."""
        return self.configs.get(topic)

    def put(self, config: TopicConfig) -> None:
        """Create a topic or change it."""
        self.configs[config.topic_name] = config

    def create_for_send(self, topic: str, default_topic: str, queues: int) -> TopicConfig | None:
        """The topic a message goes to, created as the default topic allows.

        :param topic: the topic.
        :param default_topic: whose settings it inherits.
        :param queues: how many queues the sender would like.
        :returns: None when it may not be created.
        """
        default = self.configs.get(default_topic)
        if default is not None and default.perm & Permission.INHERIT:
            queues = max(0, min(queues, default.write_queue_nums))
            config = TopicConfig(topic, queues, queues, default.perm & ~Permission.INHERIT, default.topic_filter_type)
        elif is_retry_topic(topic):
            config = TopicConfig(topic, 1, 1)
        else:
            return None
        self.put(config)
        return config

    def create_own(self, topic: str, queues: int, *, order: bool = False) -> TopicConfig:
        """A topic that the broker itself needs: a group's retry or dead-letter topic."""
        config = self.configs.get(topic)
        if config is None or config.order != order:
            config = replace(config or TopicConfig(topic, queues, queues), order=order)
            self.put(config)
        return config

    def check_name(self, topic: str) -> None:
        """Refuse a name that no topic can have.

        :raises Refused: with code 29.
        """
        try:
            if is_retry_topic(topic) or is_dlq_topic(topic):
                check_group(topic)
                if len(topic) > _MAX_RETRY_TOPIC_LENGTH:
                    raise ConfigError(f"topic {topic} is longer than {_MAX_RETRY_TOPIC_LENGTH} characters")
            else:
                check_topic(topic)
        except ConfigError as error:
            raise Refused(ResponseCode.INVALID_PARAMETER, f"The specified topic is not valid: {error}") from error

    def _update(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        header = headers.CreateTopicRequestHeader.parse(request.ext_fields)
        self.check_name(header.topic)
        if is_system_topic(header.topic):
            raise Refused(ResponseCode.INVALID_PARAMETER, f"The topic[{header.topic}] is conflict with system topic.")
        if max(header.read_queue_nums, header.write_queue_nums) > _MAX_QUEUES:
            raise Refused(ResponseCode.INVALID_PARAMETER, f"more than {_MAX_QUEUES} queues")
        self.put(
            TopicConfig(
                header.topic,
                header.read_queue_nums,
                header.write_queue_nums,
                header.perm,
                header.topic_filter_type,
                header.topic_sys_flag or 0,
                bool(header.order),
                _attributes(header.attributes),
            )
        )
        return success(request)

    def _delete(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        topic = headers.DeleteTopicRequestHeader.parse(request.ext_fields).topic
        if is_system_topic(topic):
            raise Refused(ResponseCode.INVALID_PARAMETER, f"The topic[{topic}] is conflict with system topic.")
        self.configs.pop(topic, None)
        self._on_deleted(topic)
        return success(request)

    def _get(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        topic = headers.GetTopicConfigRequestHeader.parse(request.ext_fields).topic
        config = self.get(topic)
        if config is None:
            raise Refused(ResponseCode.TOPIC_NOT_EXIST, f"No topic in this broker. topic: {topic}")
        return success(request, body=bodies.TOPIC_CONFIG.encode(config))


assert MAX_TOPIC_LENGTH < _MAX_RETRY_TOPIC_LENGTH


def _attributes(text: str | None) -> dict[str, str]:
    """``+key=value,+key=value`` as a table; removals mean nothing where all are given anew."""
    pairs = (piece.strip() for piece in (text or "").split(","))
    return {key: value for key, _, value in (pair[1:].partition("=") for pair in pairs if pair.startswith("+")) if key}
