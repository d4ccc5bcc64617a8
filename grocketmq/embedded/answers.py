"""Small helpers of all handlers."""

from __future__ import annotations

from grocketmq.codes import ResponseCode
from grocketmq.wire.bodies import TopicConfig
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.headers.base import CommandHeader

__all__ = ["REGION", "no_such_queue", "success"]

#: The region that answers and messages name.
REGION = "DefaultRegion"


def success(
    request: RemotingCommand, header: CommandHeader | None = None, body: bytes | None = None, remark: str | None = None
) -> RemotingCommand:
    """The answer to a request that was carried out."""
    ext_fields = None if header is None else header.to_ext()
    return RemotingCommand.response_to(request, ResponseCode.SUCCESS, remark, ext_fields, body)


def no_such_queue(queue_id: int, config: TopicConfig) -> str:
    """The remark on a queue that cannot be read, because its topic has fewer."""
    return f"queueId[{queue_id}] is illegal, topic:[{config.topic_name}] topicConfig.readQueueNums:[{config.read_queue_nums}]"
