"""A reply, as a broker pushes it to the client that waits for it.

Source: Apache RocketMQ 5.3.3, module remoting, class ``ReplyMessageRequestHeader``; module client, class
``ClientRemotingProcessor``.
"""

from __future__ import annotations

from ipaddress import ip_address

from grocketmq.errors import RemoteProtocolError
from grocketmq.model.message import MessageExt
from grocketmq.model.properties import decode_properties
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.headers import ReplyMessageRequestHeader

__all__ = ["read_reply"]


def read_reply(request: RemotingCommand) -> MessageExt:
    """The message in a PUSH_REPLY_MESSAGE_TO_CLIENT, its body as it travelled, maybe packed; never blocks.

    :param request: the broker's request.
    :raises RemoteProtocolError: when a field cannot be read.
    """
    header = ReplyMessageRequestHeader.from_ext(request.ext_fields)
    return MessageExt(
        header.topic or "",
        request.body or b"",
        properties=decode_properties(header.properties or ""),
        broker_name=header.bname or "",
        queue_id=header.queue_id or 0,
        sys_flag=header.sys_flag or 0,
        flag=header.flag or 0,
        born_timestamp=header.born_timestamp or 0,
        born_host=_host("bornHost", header.born_host),
        store_timestamp=header.store_timestamp or 0,
        store_host=_host("storeHost", header.store_host),
        reconsume_times=header.reconsume_times or 0,
    )


def _host(field: str, text: str | None) -> tuple[bytes, int]:
    """``ip:port`` as stored messages hold it."""
    if not text:
        return b"\0" * 4, 0
    host, _, port = text.rpartition(":")
    try:
        return ip_address(host.strip("/[]").partition("%")[0]).packed, int(port)
    except ValueError:
        raise RemoteProtocolError(f"pushed reply: {field} is {text[:80]!r}, not ip:port") from None
