"""What brokers are told, again and again, of the groups that live in an instance."""

from __future__ import annotations

from collections.abc import Sequence

from grocketmq.client.members import ConsumerMember, ProducerMember
from grocketmq.wire.bodies import HEARTBEAT, HeartbeatData, ProducerData

__all__ = ["heartbeat_body"]


def heartbeat_body(client_id: str, producers: Sequence[ProducerMember], consumers: Sequence[ConsumerMember]) -> bytes | None:
    """Encode a heartbeat; never blocks.

    A client that only produces must send heartbeats too: transaction checks and replies find it that way.

    :param client_id: the instance's.
    :param producers: its producers; a group may have several.
    :param consumers: its consumers.
    :returns: the body, None when there is nobody to tell of.
    """
    groups = sorted({producer.group for producer in producers})
    if not groups and not consumers:
        return None
    data = HeartbeatData(
        client_id,
        tuple(ProducerData(group) for group in groups),
        tuple(consumer.heartbeat_data() for consumer in consumers),
    )
    return HEARTBEAT.encode(data)
