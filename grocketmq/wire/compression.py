"""Packing and unpacking of message bodies.

zlib is always at hand.  lz4 (frame format) and zstd come with the extras of these names and are imported at their first use.

Source: Apache RocketMQ 5.3.3, module common, package ``compression``.
"""

from __future__ import annotations

import functools
import sys
import zlib
from types import ModuleType
from typing import Any

from grocketmq.errors import ConfigError, RemoteProtocolError
from grocketmq.wire.flags import CompressionType

__all__ = ["MAX_PLAIN_BYTES", "compress", "decompress", "require"]

#: The largest plain body taken from a peer.  Brokers take 4 MiB by default and a frame holds at most 16 MiB; twice that leaves
#: room for clusters set wider, and a decompression bomb ends here.
MAX_PLAIN_BYTES = 32 * 1024 * 1024

#: No lz4 byte stands for more than 255 plain ones.  lz4 reserves the limit it is given, so it gets no more than can come.
_LZ4_MAX_RATIO = 255


def require(kind: CompressionType) -> None:
    """Make sure that this process can pack and unpack the type; never blocks but for the first import.

    :param kind: the compression type.
    :raises ConfigError: when its package is not installed.
    """
    if kind != CompressionType.ZLIB:
        _codec(kind)


def compress(kind: CompressionType, data: bytes, level: int = 5) -> bytes:
    """Pack a body; burns CPU, so large bodies belong into a thread pool.

    :param kind: the compression type.
    :param data: the plain body.
    :param level: 1 (fast) to 9 (small), the Java client's default is 5; lz4 has one level only.
    :returns: the packed body.
    :raises ConfigError: when the type's package is not installed.
    """
    if kind == CompressionType.ZLIB:
        return zlib.compress(data, level)
    codec: Any = _codec(kind)
    if kind == CompressionType.ZSTD:
        return codec.compress(data, level)  # type: ignore[no-any-return]
    # Java's reader refuses blocks that refer to earlier ones.
    return codec.compress(data, block_linked=False, store_size=False)  # type: ignore[no-any-return]


def decompress(kind: CompressionType, data: bytes, limit: int = MAX_PLAIN_BYTES) -> bytes:
    """Unpack a body; burns CPU in proportion to the plain body, never writes more than the limit.

    :param kind: the compression type.
    :param data: the packed body.
    :param limit: most plain bytes.
    :returns: the plain body.
    :raises RemoteProtocolError: for bytes of another form, a body cut short, or a plain body beyond the limit.
    :raises ConfigError: when the type's package is not installed.
    """
    reader, errors, most = _reader(kind, data, limit)
    try:
        plain: bytes = reader.decompress(data, most + 1)
    except errors as error:
        raise RemoteProtocolError(f"message body: not {kind.name} data: {error}") from error
    if len(plain) > limit:
        raise RemoteProtocolError(f"message body: {len(data)} bytes of {kind.name} unpack to more than {limit}")
    if not reader.eof:
        raise RemoteProtocolError(f"message body: its {len(data)} bytes of {kind.name} are cut short")
    if reader.unused_data and kind != CompressionType.ZLIB:  # Java ignores a tail after zlib only
        raise RemoteProtocolError(f"message body: {len(reader.unused_data)} bytes too many after its {kind.name} data")
    return plain


def _reader(kind: CompressionType, data: bytes, limit: int) -> tuple[Any, type[Exception], int]:
    """A decompressor for one body, the error it raises, and how much to ask of it."""
    if kind == CompressionType.ZLIB:
        return zlib.decompressobj(), zlib.error, limit
    codec: Any = _codec(kind)
    if kind == CompressionType.ZSTD:
        return codec.ZstdDecompressor(), codec.ZstdError, limit
    return codec.LZ4FrameDecompressor(), RuntimeError, min(limit, len(data) * _LZ4_MAX_RATIO)


@functools.cache
def _codec(kind: CompressionType) -> ModuleType:
    try:
        if kind == CompressionType.LZ4:
            import lz4.frame as codec
        elif sys.version_info >= (3, 14):
            from compression import zstd as codec
        else:
            from backports import zstd as codec
    except ImportError as error:
        name = kind.name.lower()
        raise ConfigError(f"{name} bodies need an extra: pip install 'grocketmq[{name}]'") from error
    return codec  # type: ignore[no-any-return]
