"""Names that are made of other names: namespaces in front, retry and dead-letter topics of groups.

A resource (a topic or a group) of namespace ``ns`` is ``ns%name``; the prefix of a retry or dead-letter topic stays in front:
``%RETRY%ns%group``.  System topics and groups have no namespace.

Source: Apache RocketMQ 5.3.3, module remoting, class ``NamespaceUtil``; module common, classes ``MixAll``, ``KeyBuilder``,
``TopicValidator``.
"""

from __future__ import annotations

__all__ = [
    "DEFAULT_TOPIC",
    "DLQ_PREFIX",
    "RETRY_PREFIX",
    "SYSTEM_TOPICS",
    "TRACE_TOPIC",
    "TRANS_CHECK_MAX_TIME_TOPIC",
    "TRANS_HALF_TOPIC",
    "dlq_topic",
    "group_of_retry_topic",
    "is_dlq_topic",
    "is_retry_topic",
    "is_system_topic",
    "namespace_of",
    "normal_topic",
    "pop_retry_topic_v1",
    "pop_retry_topic_v2",
    "reply_topic",
    "retry_topic",
    "strip_namespace",
    "without_namespace",
    "without_retry_and_dlq",
    "wrap_namespace",
]

RETRY_PREFIX = "%RETRY%"
DLQ_PREFIX = "%DLQ%"

_SEPARATOR = "%"
_POP_SEPARATOR_V1 = "_"
#: No group and no topic a user can create holds it, so names of this form read back without doubt.
_POP_SEPARATOR_V2 = "+"

_SYSTEM_TOPIC_PREFIX = "rmq_sys_"
_SYSTEM_GROUP_PREFIX = "CID_RMQ_SYS_"

#: Where brokers create topics by themselves they have it, and a new topic starts with its settings and its route.
DEFAULT_TOPIC = "TBW102"
#: Where Java's clients send traces.
TRACE_TOPIC = "RMQ_SYS_TRACE_TOPIC"
#: Where brokers keep half messages of transactions.
TRANS_HALF_TOPIC = "RMQ_SYS_TRANS_HALF_TOPIC"
#: Where half messages end of which no producer could tell how their transaction ended.
TRANS_CHECK_MAX_TIME_TOPIC = "TRANS_CHECK_MAX_TIME_TOPIC"

#: Topics that belong to the brokers.
SYSTEM_TOPICS = frozenset(
    {
        DEFAULT_TOPIC,
        "SCHEDULE_TOPIC_XXXX",
        "BenchmarkTest",
        TRANS_HALF_TOPIC,
        TRACE_TOPIC,
        "RMQ_SYS_TRANS_OP_HALF_TOPIC",
        TRANS_CHECK_MAX_TIME_TOPIC,
        "SELF_TEST_TOPIC",
        "OFFSET_MOVED_EVENT",
        "CHECKPOINT_TOPIC",
    }
)


def is_system_topic(topic: str) -> bool:
    """Whether the topic belongs to the brokers."""
    return topic in SYSTEM_TOPICS or topic.startswith(_SYSTEM_TOPIC_PREFIX)


def retry_topic(group: str) -> str:
    """Where a group's messages wait for their next try."""
    return RETRY_PREFIX + group


def dlq_topic(group: str) -> str:
    """Where a group's messages go after their last try."""
    return DLQ_PREFIX + group


def reply_topic(cluster: str) -> str:
    """Where replies go that travel through a cluster."""
    return f"{cluster}_REPLY_TOPIC"


def pop_retry_topic_v1(topic: str, group: str) -> str:
    """Where a POP group's messages of a topic wait for their next try, as brokers name it by default."""
    return f"{RETRY_PREFIX}{group}{_POP_SEPARATOR_V1}{topic}"


def pop_retry_topic_v2(topic: str, group: str) -> str:
    """The same as brokers with ``enableRetryTopicV2`` name it."""
    return f"{RETRY_PREFIX}{group}{_POP_SEPARATOR_V2}{topic}"


def is_retry_topic(topic: str) -> bool:
    """Whether it is a retry topic, of either way of consuming."""
    return topic.startswith(RETRY_PREFIX)


def is_dlq_topic(topic: str) -> bool:
    """Whether it is a dead-letter topic."""
    return topic.startswith(DLQ_PREFIX)


def normal_topic(topic: str, group: str) -> str:
    """The topic behind a POP retry topic of the group; any other topic as it is.

    :param topic: a topic, of POP retry or not.
    :param group: the group it was popped for.
    """
    for separator in (_POP_SEPARATOR_V2, _POP_SEPARATOR_V1):
        prefix = f"{RETRY_PREFIX}{group}{separator}"
        if topic.startswith(prefix):
            return topic[len(prefix) :]
    return topic


def group_of_retry_topic(topic: str) -> str:
    """The group of a retry topic; of a v1 POP retry topic its topic stays behind it, as nothing tells where it begins.

    :param topic: a retry topic.
    """
    return topic[len(RETRY_PREFIX) :].partition(_POP_SEPARATOR_V2)[0]


def without_retry_and_dlq(resource: str) -> str:
    """The name without the prefix of a retry or a dead-letter topic."""
    return _split(resource)[1]


def namespace_of(resource: str) -> str:
    """The namespace in the name, ``""`` without one."""
    if _is_system(resource):
        return ""
    namespace, separator, _ = _split(resource)[1].partition(_SEPARATOR)
    return namespace if separator else ""


def wrap_namespace(namespace: str | None, resource: str) -> str:
    """Put a namespace in front; never blocks.

    :param namespace: None or ``""`` leaves the name as it is.
    :param resource: a topic or a group; one of the system and one that has this namespace already stay as they are.
    """
    if not namespace or not resource or _is_system(resource):
        return resource
    prefix, name = _split(resource)
    mark = namespace + _SEPARATOR
    return resource if name.startswith(mark) else f"{prefix}{mark}{name}"


def strip_namespace(resource: str) -> str:
    """Take off whatever namespace the name has; never blocks.

    :param resource: a topic or a group; one of the system, and one without a namespace, stays as it is.
    """
    if _is_system(resource):
        return resource
    prefix, name = _split(resource)
    namespace, separator, rest = name.partition(_SEPARATOR)
    return prefix + rest if namespace and separator else resource


def without_namespace(resource: str, namespace: str | None) -> str:
    """Take this namespace off; never blocks.

    :param resource: a topic or a group; one that has another namespace, or none, stays as it is.
    :param namespace: None or ``""`` leaves the name as it is.
    """
    if namespace and _split(resource)[1].startswith(namespace + _SEPARATOR):
        return strip_namespace(resource)
    return resource


def _is_system(resource: str) -> bool:
    return is_system_topic(resource) or resource.startswith(_SYSTEM_GROUP_PREFIX)


def _split(resource: str) -> tuple[str, str]:
    """The prefix of a retry or dead-letter topic, and the rest."""
    for prefix in (RETRY_PREFIX, DLQ_PREFIX):
        if resource.startswith(prefix):
            return prefix, resource[len(prefix) :]
    return "", resource
