"""Message bodies packed and unpacked, the large ones apart from the event loop: in the hub's thread pool."""

from __future__ import annotations

from grocketmq.model.message import MessageExt
from grocketmq.runtime.pool import in_pool
from grocketmq.wire.compression import compress, decompress
from grocketmq.wire.flags import CompressionType, MessageSysFlag

__all__ = ["pack", "unpack"]

#: From so many bytes on; below, the hand-over costs more than it saves.
_PACK_APART_BYTES = 256 * 1024
_UNPACK_APART_BYTES = 64 * 1024


def pack(kind: CompressionType, body: bytes, level: int = 5) -> bytes:
    """Compress a body; blocks only while a large one is packed in the thread pool.

    :param kind: how.
    :param body: the plain body.
    :param level: 1 (fast) to 9 (small).
    :raises ConfigError: when it needs a package that is not installed.
    """
    if len(body) < _PACK_APART_BYTES:
        return compress(kind, body, level)
    return in_pool(compress, kind, body, level)


def unpack(message: MessageExt) -> None:
    """Decompress a message's body, if there is one and it is packed; blocks only while the thread pool unpacks a large one.

    :raises RemoteProtocolError: when it cannot be unpacked.
    :raises ConfigError: when its compression needs a package that is not installed.
    """
    if not (message.sys_flag & MessageSysFlag.COMPRESSED and message.body):
        return
    kind = CompressionType.of(message.sys_flag)
    if len(message.body) < _UNPACK_APART_BYTES:
        message.body = decompress(kind, message.body)
    else:
        message.body = in_pool(decompress, kind, message.body)
    message.sys_flag &= ~MessageSysFlag.COMPRESSED
