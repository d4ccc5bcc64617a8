"""Frames: lengths around a header and a body.

======  ====  =======  ==========================================================
offset  size  type     field
======  ====  =======  ==========================================================
0       4     u32      length of all that follows
4       1     u8       header encoding: 0 JSON, 1 ROCKETMQ
5       3     u24      header length H
8       H     bytes    header
8 + H   rest  bytes    body
======  ====  =======  ==========================================================

Source: Apache RocketMQ 5.3.3, module remoting, classes ``RemotingCommand``, ``NettyDecoder``.
"""

from __future__ import annotations

from struct import Struct

from grocketmq.codes import SerializeType
from grocketmq.errors import LocalProtocolError, RemoteProtocolError
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.header_codec import decode_header, encode_header

__all__ = ["MAX_FRAME_BYTES", "MAX_HEADER_BYTES", "FrameDecoder", "encode_command"]

#: The longest frame, its first length field included: what ``NettyDecoder`` accepts by default.
MAX_FRAME_BYTES = 16 * 1024 * 1024
#: A header's length has 24 bits.
MAX_HEADER_BYTES = (1 << 24) - 1
#: Room for one read.  Larger reads were no faster, and each wakes more callers before the event loop turns.
READ_BYTES = 32 * 1024
#: A buffer that grew larger than this for one large frame goes back to its first size after it.
KEEP_BYTES = 1024 * 1024

_LENGTHS = Struct(">II")
_JSON = SerializeType.JSON
_PREFIX_BYTES = _LENGTHS.size


def encode_command(command: RemotingCommand, serialize_type: SerializeType = SerializeType.JSON) -> bytes:
    """The whole frame of a command; never blocks.

    A code that the ROCKETMQ header cannot hold (its field has 16 bits; POP codes are larger) travels in a JSON header, which
    every peer reads.

    :param command: what to send.
    :param serialize_type: how its header is to be encoded.
    :raises LocalProtocolError: when a text cannot be encoded as UTF-8 or the header is longer than its length can say.
    """
    header = command.prepared_json_header() if serialize_type is _JSON else None
    used = _JSON
    if header is None:
        used, header = encode_header(command, serialize_type)
    if len(header) > MAX_HEADER_BYTES:
        raise LocalProtocolError(f"header of request {command.code}: {len(header)} bytes, over {MAX_HEADER_BYTES}")
    body = command.body or b""
    return _LENGTHS.pack(4 + len(header) + len(body), used << 24 | len(header)) + header + body


#: How many times what has come of a frame there is room for, until there is room for all of it.
_GROWTH = 4


class FrameDecoder:
    """Turns a stream of bytes into commands.

    Either hand it bytes with :meth:`feed`, or let a socket write into :meth:`space` and tell :meth:`received` how much came.
    Chunks may be cut anywhere.  When the stream cannot be read any further, the frames before that point are still given out;
    :attr:`error` says why, and the next call raises it.

    :param max_frame_bytes: the longest frame to accept; a longer one is an error before memory is taken for it.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.error: RemoteProtocolError | None = None
        self._max_frame_bytes = max_frame_bytes
        self._buffer = bytearray(READ_BYTES)
        self._view = memoryview(self._buffer)
        self._have = 0

    def feed(self, data: bytes | bytearray | memoryview) -> list[RemotingCommand]:
        """Take bytes; never blocks.

        :param data: the next bytes of the stream, any number of them.
        :returns: the commands that are complete now, in order.
        :raises RemoteProtocolError: when the stream cannot be read and no command came before the fault.
        """
        commands: list[RemotingCommand] = []
        rest = memoryview(data)
        while True:
            space = self.space()
            chunk, rest = rest[: len(space)], rest[len(space) :]
            space[: len(chunk)] = chunk
            space.release()
            try:
                commands += self.received(len(chunk))
            except RemoteProtocolError:
                if not commands:
                    raise
                return commands
            if not rest:
                return commands

    def space(self) -> memoryview:
        """Where the next bytes are to be written; at least one byte long."""
        return self._view[self._have :]

    def received(self, count: int) -> list[RemotingCommand]:
        """Tell that bytes were written into :meth:`space`; never blocks.

        :param count: how many.
        :returns: the commands that are complete now, in order.
        :raises RemoteProtocolError: as :meth:`feed`.
        """
        if self.error is not None:
            raise self.error
        self._have += count
        commands: list[RemotingCommand] = []
        try:
            position, needed = self._decode_all(commands)
        except RemoteProtocolError as error:
            self.error = error
            if not commands:
                raise
            return commands
        if position == self._have and len(self._buffer) <= KEEP_BYTES:
            self._have = 0  # which is nearly always so, and saves a call
        else:
            self._make_room(position, needed)
        return commands

    def _decode_all(self, commands: list[RemotingCommand]) -> tuple[int, int]:
        """Every complete frame; where the first incomplete one begins, and how much room that needs."""
        buffer, view, have = self._buffer, self._view, self._have
        position = 0
        while have - position >= _PREFIX_BYTES:
            length, header_length = _LENGTHS.unpack_from(buffer, position)
            header_length &= MAX_HEADER_BYTES
            end = position + 4 + length
            if length < 4 + header_length or length + 4 > self._max_frame_bytes:
                raise self._wrong_lengths(length, header_length)
            if end > have:
                return position, end - position
            header_at = position + _PREFIX_BYTES
            body_at = header_at + header_length
            body = bytes(view[body_at:end]) if end > body_at else None
            commands.append(decode_header(buffer[position + 4], view[header_at:body_at], body))
            position = end
        return position, _PREFIX_BYTES

    def _wrong_lengths(self, length: int, header_length: int) -> RemoteProtocolError:
        if length + 4 > self._max_frame_bytes:
            return RemoteProtocolError(
                f"frame length {length} is over the limit of {self._max_frame_bytes} bytes (max_frame_size)"
            )
        return RemoteProtocolError(f"frame length {length} cannot hold its header length {header_length}")

    def _make_room(self, position: int, needed: int) -> None:
        """Move what is left to the front, and have room for more of the frame that is under way.

        A large frame gets room as it comes: its length alone, which costs the peer nothing, takes no memory.
        """
        left = self._have - position
        size = len(self._buffer)
        wanted = min(needed, max(size, _GROWTH * left))
        if wanted > size:
            self._resize(position, left, wanted)
        elif size > KEEP_BYTES and needed <= READ_BYTES:
            self._resize(position, left, READ_BYTES)
        elif position and left:
            self._buffer[:left] = self._buffer[position : self._have]
        self._have = left

    def _resize(self, position: int, left: int, size: int) -> None:
        old = self._view
        self._buffer = bytearray(size)
        self._view = memoryview(self._buffer)
        self._view[:left] = old[position : position + left]
