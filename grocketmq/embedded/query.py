"""Messages by their place in the commit log, and by unique id or key.

There is no index: a query looks through the log.

Source: Apache RocketMQ 5.3.3, module broker, class ``QueryMessageProcessor``; module store, class ``IndexService``.
"""

from __future__ import annotations

from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded.answers import success
from grocketmq.embedded.store import MessageStore
from grocketmq.model.message import MessageExt
from grocketmq.model.properties import Property
from grocketmq.remoting.server import Channel, Handler, Refused
from grocketmq.wire import headers
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.flags import MessageSysFlag
from grocketmq.wire.message_codec import decode_message

__all__ = ["Queries"]

#: The most messages in an answer, for a unique id (``defaultQueryMaxNum``) and for a key (``maxMsgsNumBatch``).
_MAX_UNIQUE = 32
_MAX_NUM = 64


class Queries:
    """Finds messages.

    :param store: the broker's messages.
    """

    def __init__(self, store: MessageStore) -> None:
        self._store = store

    def handlers(self) -> dict[int, Handler]:
        """The requests it serves."""
        return {RequestCode.VIEW_MESSAGE_BY_ID: self._view, RequestCode.QUERY_MESSAGE: self._query}

    def _view(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        offset = headers.ViewMessageRequestHeader.parse(request.ext_fields).offset
        frame = self._store.log.at(offset)
        if frame is None:
            raise Refused(ResponseCode.SYSTEM_ERROR, f"can not find message by the offset, {offset}")
        return success(request, body=frame)

    def _query(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        header = headers.QueryMessageRequestHeader.parse(request.ext_fields)
        unique = (request.ext_fields or {}).get(headers.UNIQUE_KEY_QUERY) == "true"
        most = _MAX_UNIQUE if unique else min(header.max_num, _MAX_NUM)
        found: list[bytes] = []
        for frame in self._store.log.holding(header.key.encode()):
            if len(found) >= most:
                break
            message = decode_message(frame, decompress=False)
            if header.begin_timestamp <= message.store_timestamp <= header.end_timestamp and _is_indexed(message, header):
                found.append(frame)
        if not found:
            raise Refused(ResponseCode.QUERY_NOT_FOUND, "can not find message, maybe time range not correct", {})
        last: dict[str, str | None] = {"indexLastUpdateTimestamp": "0", "indexLastUpdatePhyoffset": str(self._store.log.end)}
        return RemotingCommand.response_to(request, ResponseCode.SUCCESS, None, last, b"".join(found))


def _is_indexed(message: MessageExt, header: headers.QueryMessageRequestHeader) -> bool:
    rolled_back = message.sys_flag & MessageSysFlag.TRANSACTION_MASK == MessageSysFlag.TRANSACTION_ROLLBACK
    keys = {message.properties.get(Property.UNIQ_KEY), *(message.keys or "").split(" ")}
    return message.topic == header.topic and header.key in keys and not rolled_back
