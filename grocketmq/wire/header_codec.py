"""The two encodings of a command's header.

JSON: an object with ``code``, ``language`` (a name), ``version``, ``opaque``, ``flag``, ``remark``, ``extFields`` and
``serializeTypeCurrentRPC``; nulls are left out when written, any key may be missing when read, unknown keys are ignored.

ROCKETMQ, big endian:

======  ====  =======  ===========================================================
offset  size  type     field
======  ====  =======  ===========================================================
0       2     i16      code
2       1     i8       language
3       2     i16      version
5       4     i32      opaque
9       4     i32      flag
13      4     i32      remark length R, 0 for none
17      R     UTF-8    remark
17 + R  4     i32      length of all ext fields
21 + R  rest           for each: i16 length, name, i32 length, value
======  ====  =======  ===========================================================

A broker answers in its own configured encoding whatever the request used, so the encoding is read from every frame.

Source: Apache RocketMQ 5.3.3, module remoting, classes ``RemotingCommand``, ``RocketMQSerializable``, ``RemotingSerializable``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from struct import Struct
from struct import error as StructError
from typing import Annotated, Any

from grocketmq.codes import LanguageCode, SerializeType
from grocketmq.errors import LocalProtocolError, RemoteProtocolError
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.numbers import INT32

try:  # the "speed" extra
    import msgspec

    _HAVE_MSGSPEC = True
except ImportError:
    _HAVE_MSGSPEC = False

__all__ = ["decode_header", "encode_header"]

#: Plain numbers: they are compared for every frame.
_JSON, _ROCKETMQ = int(SerializeType.JSON), int(SerializeType.ROCKETMQ)

_INT16 = range(-(1 << 15), 1 << 15)

_FIXED = Struct(">hbhiii")
_NAME_LENGTH = Struct(">h")
_LENGTH = Struct(">i")

_LANGUAGES = {code.name: code for code in LanguageCode}
_LANGUAGE_NUMBERS = {int(code): code for code in LanguageCode}

_ExtFields = dict[str, str | None]


def encode_header(command: RemotingCommand, serialize_type: SerializeType) -> tuple[SerializeType, bytes]:
    """Write a header; never blocks.

    :param command: whose header.
    :param serialize_type: the encoding asked for.
    :returns: the encoding used (JSON where a number does not fit ROCKETMQ's 16 bits) and the bytes.
    :raises LocalProtocolError: when a text cannot be encoded as UTF-8, or a number does not fit its field.
    """
    try:
        if serialize_type is SerializeType.ROCKETMQ and command.code in _INT16 and command.version in _INT16:
            return serialize_type, _encode_rocketmq(command)
        return SerializeType.JSON, _encode_json(command)
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"header of request {command.code} holds text that is not Unicode: {error}") from error
    except StructError as error:
        raise LocalProtocolError(f"header of {command!r} holds a number out of range: {error}") from error


def _encode_json(command: RemotingCommand) -> bytes:
    fields: dict[str, Any] = {"code": command.code}
    if command.ext_fields is not None:
        fields["extFields"] = {name: value for name, value in command.ext_fields.items() if value is not None}
    fields["flag"] = command.flag
    fields["language"] = _language(command).name
    fields["opaque"] = command.opaque
    if command.remark is not None:
        fields["remark"] = command.remark
    fields["serializeTypeCurrentRPC"] = SerializeType.JSON.name
    fields["version"] = command.version
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def _encode_rocketmq(command: RemotingCommand) -> bytes:
    remark = (command.remark or "").encode("utf-8")
    ext = bytearray()
    for name, value in (command.ext_fields or {}).items():
        if value is not None:
            name_bytes, value_bytes = name.encode("utf-8"), value.encode("utf-8")
            if len(name_bytes) not in _INT16:
                raise LocalProtocolError(f"ext field name {name[:40]!r}... is longer than {_INT16.stop - 1} bytes")
            ext += _NAME_LENGTH.pack(len(name_bytes)) + name_bytes + _LENGTH.pack(len(value_bytes)) + value_bytes
    fixed = _FIXED.pack(command.code, _language(command), command.version, command.opaque, command.flag, len(remark))
    return b"".join((fixed, remark, _LENGTH.pack(len(ext)), ext))


def _language(command: RemotingCommand) -> LanguageCode:
    return LanguageCode.OTHER if command.language is None else command.language  # JAVA is 0


def decode_header(serialize_type: int, header: memoryview, body: bytes | None) -> RemotingCommand:
    """Read a header; never blocks.

    :param serialize_type: the frame's encoding byte.
    :param header: the header's bytes.
    :param body: the frame's payload, which the command takes as it is.
    :raises RemoteProtocolError: naming what cannot be read.
    """
    if serialize_type == _JSON:
        return _decode_json(header, body)
    if serialize_type == _ROCKETMQ:
        return _decode_rocketmq(bytes(header), body)
    raise RemoteProtocolError(f"frame header encoding {serialize_type} is none of 0 (JSON) and 1 (ROCKETMQ)")


def _decode_json_plain(header: memoryview, body: bytes | None) -> RemotingCommand:
    try:
        fields = json.loads(str(header, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"frame header is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise RemoteProtocolError(f"frame header is a JSON {type(fields).__name__}, not an object")
    remark = fields.get("remark")
    return RemotingCommand(
        _int32(fields, "code"),
        _int32(fields, "opaque"),
        _int32(fields, "flag"),
        None if remark is None else _text("remark", remark),
        _ext_fields(fields.get("extFields")),
        body,
        _LANGUAGES.get(_text("language", fields.get("language", "JAVA"))),
        _int32(fields, "version"),
    )


def _int32(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name, 0)
    try:
        number = 0 if value is None else int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise RemoteProtocolError(f"frame header field {name} is {value!r:.80}, not a number") from error
    if number not in INT32:
        raise RemoteProtocolError(f"frame header field {name} is {number}, which is no 32-bit integer")
    return number


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        raise RemoteProtocolError(f"frame header field {name} is a JSON {type(value).__name__}, not a text")
    return str(value)


def _ext_fields(value: Any) -> _ExtFields | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"frame header field extFields is a JSON {type(value).__name__}, not an object")
    return {name: None if one is None else _text(f"extFields.{name}", one) for name, one in value.items()}


def _decode_rocketmq(header: bytes, body: bytes | None) -> RemotingCommand:
    if len(header) < _FIXED.size + _LENGTH.size:
        raise RemoteProtocolError(f"ROCKETMQ frame header of {len(header)} bytes is shorter than its fixed fields")
    code, language, version, opaque, flag, remark_length = _FIXED.unpack_from(header)
    remark, at = _take(header, _FIXED.size, remark_length, len(header), "remark")
    if at + _LENGTH.size > len(header):
        raise RemoteProtocolError("ROCKETMQ frame header ends before its extFields length")
    (ext_length,) = _LENGTH.unpack_from(header, at)
    at += _LENGTH.size
    if ext_length < 0 or at + ext_length > len(header):
        raise RemoteProtocolError(
            f"ROCKETMQ frame header field extFields length is {ext_length}, {len(header) - at} bytes left"
        )
    ext = _decode_ext(header, at, at + ext_length) if ext_length else None
    return RemotingCommand(code, opaque, flag, remark, ext, body, _LANGUAGE_NUMBERS.get(language), version)


def _decode_ext(header: bytes, at: int, end: int) -> _ExtFields:
    ext: _ExtFields = {}
    while at < end:
        name, at = _take_with_length(header, at, end, _NAME_LENGTH, "extFields name")
        value, at = _take_with_length(header, at, end, _LENGTH, f"extFields.{name}")
        if name is not None:
            ext[name] = value
    return ext


def _take_with_length(header: bytes, at: int, end: int, length: Struct, field: str) -> tuple[str | None, int]:
    if at + length.size > end:
        raise RemoteProtocolError(f"ROCKETMQ frame header ends within {field}")
    return _take(header, at + length.size, length.unpack_from(header, at)[0], end, field)


def _take(header: bytes, at: int, length: int, end: int, field: str) -> tuple[str | None, int]:
    """A text of that length, None for an empty one as Java reads it, and where it ends."""
    if length < 0 or at + length > end:
        raise RemoteProtocolError(f"ROCKETMQ frame header field {field}: length {length}, {end - at} bytes left")
    try:
        return header[at : at + length].decode("utf-8") or None, at + length
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(f"ROCKETMQ frame header field {field} is not UTF-8: {error}") from error


def _fast_json_decoder() -> Callable[[memoryview, bytes | None], RemotingCommand]:
    """Several times the plain decoder's speed.  What it does not take goes to the plain one, so both read alike."""
    int32 = Annotated[int, msgspec.Meta(ge=INT32.start, lt=INT32.stop)]
    fields = [(name, int32, 0) for name in ("code", "opaque", "flag", "version")]
    texts = [("language", str, "JAVA"), ("serializeTypeCurrentRPC", str, ""), ("remark", str | None, None)]
    # Fields it does not know are refused, as it would step over them without looking at their UTF-8.
    shape = msgspec.defstruct(
        "JsonHeader", [*fields, *texts, ("extFields", _ExtFields | None, None)], forbid_unknown_fields=True, gc=False
    )
    decode = msgspec.json.Decoder(shape).decode
    refused = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

    def decode_fast(header: memoryview, body: bytes | None) -> RemotingCommand:
        try:
            h: Any = decode(header)
        except refused:
            return _decode_json_plain(header, body)
        return RemotingCommand(h.code, h.opaque, h.flag, h.remark, h.extFields, body, _LANGUAGES.get(h.language), h.version)

    return decode_fast


_decode_json = _fast_json_decoder() if _HAVE_MSGSPEC else _decode_json_plain
