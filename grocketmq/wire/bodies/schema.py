"""How values become JSON bodies and back: small schemas that are put together.

A schema reads what :func:`~grocketmq.wire.json_codec.loads_tolerant` yields and writes what
:func:`~grocketmq.wire.json_codec.dumps` takes.  As Java does, it ignores unknown fields, gives missing ones (and nulls) the
default of their class or else their type's zero, takes numbers written as texts, and leaves None out when it writes.

Source: Apache RocketMQ 5.3.3, module remoting, class ``RemotingSerializable`` and what fastjson 1.2.83 reads for it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from grocketmq.errors import LocalProtocolError, RemoteProtocolError
from grocketmq.model.route import MessageQueue
from grocketmq.wire.json_codec import MAX_DEPTH, Pairs, dumps, loads_tolerant
from grocketmq.wire.names import camel_case
from grocketmq.wire.numbers import INT64, read_integer

__all__ = [
    "ANYTHING",
    "DOUBLE",
    "FLAG",
    "INTEGER",
    "QUEUE",
    "TEXT",
    "Body",
    "Named",
    "Schema",
    "enumeration",
    "listing",
    "only",
    "optional",
    "record",
    "table",
]

T = TypeVar("T")
K = TypeVar("K")
E = TypeVar("E", bound=Enum)

_DOUBLE = re.compile(r"[+-]?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?", re.ASCII)


class Misfit(Exception):
    """A value that a schema cannot read; the path to it grows on the way up."""

    def __init__(self, expected: str, found: Any) -> None:
        super().__init__(expected)
        self.expected = expected
        self.found = found
        self.path: list[str] = []

    def __str__(self) -> str:
        where = ".".join(reversed(self.path)) or "the body"
        return f"{where}: {self.expected} expected, found {_brief(self.found)}"


def _brief(value: Any) -> str:
    """A value for an error's message; of what may be large or deep only the type."""
    if isinstance(value, str):
        return repr(value[:80])
    if isinstance(value, (bool, float)) or (isinstance(value, int) and value.bit_length() <= 128):
        return repr(value)
    return f"a {type(value).__name__}"


@dataclass(frozen=True)
class Schema(Generic[T]):
    """How one kind of value is read and written.

    :param read: JSON value to value; raises :class:`Misfit`.
    :param write: value to JSON value.
    :param zero: what a missing field becomes when its class has no default for it.
    :param read_key: JSON key to value, for schemas that can be a table's key.
    """

    read: Callable[[Any], T]
    write: Callable[[T], Any]
    zero: Callable[[], T]
    read_key: Callable[[Any], T] | None = None


def _read_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    raise Misfit("a text", value)


def _read_integer(value: Any) -> int:
    number = read_integer(value) if isinstance(value, str) else value
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int) or number not in INT64:
        raise Misfit("an integer of 64 bits", value)
    return number


def _read_double(value: Any) -> float:
    if isinstance(value, str) and _DOUBLE.fullmatch(value):
        value = float(value)
    if isinstance(value, int) and not isinstance(value, bool) and value in INT64:
        value = float(value)
    if not isinstance(value, float) or not math.isfinite(value):
        raise Misfit("a number", value)
    return value


def _read_flag(value: Any) -> bool:
    if isinstance(value, (bool, int)) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise Misfit("true or false", value)


def _read_anything(value: Any) -> Any:
    todo = [(value, 0)]
    while todo:
        inner, depth = todo.pop()
        if depth > MAX_DEPTH:
            raise Misfit(f"a value nested at most {MAX_DEPTH} deep", inner)
        if isinstance(inner, Pairs):
            todo += [(part, depth + 1) for item in inner.items for part in item]
        elif isinstance(inner, (dict, list)):
            todo += [(part, depth + 1) for part in (inner.values() if isinstance(inner, dict) else inner)]
    return value


def _same(value: Any) -> Any:
    return value


TEXT: Schema[str] = Schema(_read_text, _same, str, _read_text)
INTEGER: Schema[int] = Schema(_read_integer, _same, int, _read_integer)
DOUBLE: Schema[float] = Schema(_read_double, float, float)
FLAG: Schema[bool] = Schema(_read_flag, _same, bool)
#: Any JSON value as it is, for parts no client looks into.
ANYTHING: Schema[Any] = Schema(_read_anything, _same, lambda: None)


def optional(schema: Schema[T]) -> Schema[T | None]:
    """The same, None when missing."""
    return Schema(schema.read, lambda value: None if value is None else schema.write(value), lambda: None)


def enumeration(cls: type[E], *java_names: str) -> Schema[E | None]:
    """A member of an enum whose values are Java's names; an unknown name reads as None, as in Java.

    :param cls: the enum.
    :param java_names: all names in the order of the Java enum, whose ordinals are read as well; default: the enum's own order.
    """
    members: dict[str, E] = {member.value: member for member in cls}
    names = java_names or tuple(members)

    def read(value: Any) -> E | None:
        if isinstance(value, str):
            return members.get(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
            return members.get(names[value])
        raise Misfit(f"one of {', '.join(names)}", value)

    return Schema(read, lambda member: None if member is None else member.value, lambda: None)


def listing(schema: Schema[T]) -> Schema[tuple[T, ...]]:
    """A list or a set, as a tuple in the order of the text."""

    def read(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise Misfit("a list", value)
        found = []
        for index, inner in enumerate(value):
            try:
                found.append(schema.read(inner))
            except Misfit as misfit:
                misfit.path.append(f"[{index}]")
                raise
        return tuple(found)

    return Schema(read, lambda values: [schema.write(value) for value in values], tuple)


def table(keys: Schema[K], values: Schema[T]) -> Schema[dict[K, T]]:
    """A map; keys that are no texts are written as the caller of :meth:`Body.encode` says."""

    def read(value: Any) -> dict[K, T]:
        if not isinstance(value, (dict, Pairs)):
            raise Misfit("an object", value)
        found: dict[K, T] = {}
        for key, inner in value.items if isinstance(value, Pairs) else value.items():
            try:
                found[(keys.read_key or keys.read)(key)] = values.read(inner)
            except Misfit as misfit:
                misfit.path.append(f"[{_brief(key)}]")
                raise
        return found

    def write(value: Mapping[K, T]) -> Any:
        items = [(keys.write(key), values.write(inner)) for key, inner in value.items()]
        return Pairs(items) if any(isinstance(key, dict) for key, _ in items) else dict(items)

    return Schema(read, write, dict)


@dataclass(frozen=True)
class Named:
    """A field whose name on the wire is not the camel case of its attribute.

    :param wire: the name that is written.
    :param schema: what it holds.
    :param aliases: other names that are read.
    """

    wire: str
    schema: Schema[Any]
    aliases: tuple[str, ...] = ()


def record(cls: type[T], /, **attributes: Schema[Any] | Named) -> Schema[T]:
    """An object whose fields are a dataclass's attributes, written in the order of their names as Java does.

    :param cls: the dataclass; defaults of its attributes are what missing fields become.
    :param attributes: the attributes that travel.
    """
    has_default = {
        field.name
        for field in dataclasses.fields(cls)  # type: ignore[arg-type]
        if field.default is not MISSING or field.default_factory is not MISSING
    }
    named = {
        attribute: given if isinstance(given, Named) else Named(camel_case(attribute), given)
        for attribute, given in attributes.items()
    }
    plan = sorted(named.items(), key=lambda item: item[1].wire)

    def read(value: Any) -> T:
        if not isinstance(value, dict):
            raise Misfit(f"an object ({cls.__name__})", value)
        found: dict[str, Any] = {}
        for attribute, field in plan:
            inner = value.get(field.wire)
            if inner is None and field.aliases:
                inner = next((value[alias] for alias in field.aliases if value.get(alias) is not None), None)
            if inner is not None:
                try:
                    found[attribute] = field.schema.read(inner)
                except Misfit as misfit:
                    misfit.path.append(field.wire)
                    raise
            elif attribute not in has_default:
                found[attribute] = field.schema.zero()
        return cls(**found)

    def write(value: T) -> dict[str, Any]:
        written = ((field.wire, field.schema.write(getattr(value, attribute))) for attribute, field in plan)
        return {wire: inner for wire, inner in written if inner is not None}

    return Schema(read, write, lambda: read({}))


def only(wire: str, schema: Schema[T]) -> Schema[T]:
    """An object of a single field, read as that field's value.

    :param wire: the field's name.
    :param schema: what it holds.
    """

    def read(value: Any) -> T:
        if not isinstance(value, dict):
            raise Misfit("an object", value)
        inner = value.get(wire)
        try:
            return schema.zero() if inner is None else schema.read(inner)
        except Misfit as misfit:
            misfit.path.append(wire)
            raise

    return Schema(read, lambda value: {wire: schema.write(value)}, schema.zero)


_QUEUE_FIELDS = record(MessageQueue, topic=TEXT, broker_name=TEXT, queue_id=INTEGER)


def _read_queue_key(value: Any) -> MessageQueue:
    if not isinstance(value, str):
        return _QUEUE_FIELDS.read(value)
    try:
        return _QUEUE_FIELDS.read(loads_tolerant(value))
    except RemoteProtocolError:
        raise Misfit("a queue's JSON", value) from None


#: A queue, also as a table's key: an object, or its JSON as a text.
QUEUE: Schema[MessageQueue] = Schema(_QUEUE_FIELDS.read, _QUEUE_FIELDS.write, _QUEUE_FIELDS.zero, _read_queue_key)


@dataclass(frozen=True)
class Body(Generic[T]):
    """One kind of body.

    :param name: the Java class it belongs to.
    :param schema: what it holds.
    """

    name: str
    schema: Schema[T]

    def decode(self, data: bytes | None) -> T:
        """Read a frame's body; never blocks.

        :param data: the body.
        :raises RemoteProtocolError: when there is none, when it is no JSON, or when a field has the wrong type.
        """
        if not data:
            raise RemoteProtocolError(f"{self.name}: the frame has no body")
        try:
            return self.schema.read(loads_tolerant(data, self.name))
        except Misfit as misfit:
            raise RemoteProtocolError(f"{self.name}: {misfit}") from None

    def encode(self, value: T, *, object_keys: bool = False) -> bytes:
        """Write a frame's body; never blocks.

        :param value: what to write.
        :param object_keys: raw keys that are numbers and objects, as Java writes them, instead of strict JSON; Java reads
            both.
        :raises LocalProtocolError: for a value that cannot be written.
        """
        try:
            return dumps(self.schema.write(value), object_keys=object_keys)
        except LocalProtocolError as error:
            raise LocalProtocolError(f"{self.name}: {error}") from error
