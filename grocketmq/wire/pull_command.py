"""A pull: the request and its answer, whose cost is shared by only some 32 messages.

Source: Apache RocketMQ 5.3.3, module remoting, classes ``PullMessageRequestHeader``, ``PullMessageResponseHeader``.
"""

from __future__ import annotations

from typing import NamedTuple

from grocketmq.codes import RequestCode
from grocketmq.errors import RemoteProtocolError
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.headers import PullMessageRequestHeader
from grocketmq.wire.request_template import PreparedCommand, RequestTemplate

__all__ = ["PullFields", "PullTemplate", "read_pull_answer"]

#: What differs from one pull of a queue to the next.
_VARYING = ("queue_offset", "sys_flag", "commit_offset")
_NAMES = PullMessageRequestHeader.wire_names()


class PullTemplate(RequestTemplate):
    """What all pulls of one queue have in common.

    :param header: any pull of the queue.
    :param code: ``PULL_MESSAGE`` or ``LITE_PULL_MESSAGE``.
    """

    __slots__ = ()

    def __init__(self, header: PullMessageRequestHeader, code: RequestCode) -> None:
        varying = tuple(_NAMES[name] for name in _VARYING)
        constant = {name: value for name, value in header.to_ext().items() if name not in varying}
        super().__init__(code, constant, varying)

    def command(self, queue_offset: int, sys_flag: int, commit_offset: int) -> PreparedCommand:
        """One pull; never blocks.

        :param queue_offset: where to begin.
        :param sys_flag: bits of ``PullSysFlag``.
        :param commit_offset: an offset to store on the way, where its bit is set.
        """
        return PreparedCommand(self, (queue_offset, sys_flag, commit_offset))


class PullFields(NamedTuple):
    """What a broker says beside the messages; the fast twin of ``PullMessageResponseHeader``."""

    suggest_which_broker_id: int
    next_begin_offset: int
    min_offset: int
    max_offset: int
    offset_delta: int


def read_pull_answer(answer: RemotingCommand) -> PullFields:
    """Read the answer to a pull; never blocks.

    :param answer: an answer whose code is one of a pull's.
    :raises RemoteProtocolError: when a field is missing or is no number.
    """
    ext = answer.ext_fields or {}
    try:
        return PullFields(
            int(ext.get("suggestWhichBrokerId") or 0),
            int(ext["nextBeginOffset"] or ""),
            int(ext["minOffset"] or ""),
            int(ext["maxOffset"] or ""),
            int(ext.get("offsetDelta") or 0),
        )
    except (KeyError, ValueError) as error:
        raise RemoteProtocolError(f"answer to a pull lacks a field or has a wrong one: {error!r}") from error
