"""KapokMQ for gevent: producers for one server or a cluster, consumers, and the console.

Independent of the RocketMQ clients.  Needs the extra ``kapokmq``: ``pip install 'grocketmq[kapokmq]'``.

Reading order: ``wire`` (texts), ``websocket`` (frames), ``link`` (one connection), ``session`` (connecting again), ``outbox``
(sends and their acknowledgements), ``producer``, ``cluster``, ``consumer``; ``http``, ``console``, ``registry``.
"""

from __future__ import annotations

try:
    import wsproto as _wsproto
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        "grocketmq.kapokmq needs wsproto; install it with: pip install 'grocketmq[kapokmq]'", name=_error.name
    ) from _error

from grocketmq.errors import AckTimeout, AuthError, KapokMQError, SendOutcomeUnknown
from grocketmq.kapokmq.cluster import ClusterProducer
from grocketmq.kapokmq.config import ClusterProducerConfig, ConsumerConfig, ProducerConfig
from grocketmq.kapokmq.console import Console
from grocketmq.kapokmq.consumer import Consumer
from grocketmq.kapokmq.message import ClientInfo, Clients, KapokMessage, MessageCounts, Node
from grocketmq.kapokmq.producer import Producer
from grocketmq.kapokmq.registry import get_nodes

__all__ = [
    "AckTimeout",
    "AuthError",
    "ClientInfo",
    "Clients",
    "ClusterProducer",
    "ClusterProducerConfig",
    "Console",
    "Consumer",
    "ConsumerConfig",
    "KapokMQError",
    "KapokMessage",
    "MessageCounts",
    "Node",
    "Producer",
    "ProducerConfig",
    "SendOutcomeUnknown",
    "get_nodes",
]
