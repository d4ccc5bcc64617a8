"""What all header classes share: how fields travel as texts.

A header class is a dataclass whose attributes are named in snake case.  The wire's name of an attribute is its camel case; the
few that are irregular are listed in the class's ``_WIRE``.  This is the only place where the two meet.

Source: Apache RocketMQ 5.3.3, module remoting, classes ``CommandCustomHeader``, ``RemotingCommand`` (``makeCustomHeaderToNet``,
``decodeCommandCustomHeader``), ``RpcRequestHeader``, ``TopicRequestHeader``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from grocketmq.codes import RequestCode
from grocketmq.errors import RemoteProtocolError
from grocketmq.wire.names import camel_case
from grocketmq.wire.numbers import read_integer

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CommandHeader", "RpcRequestHeader", "TopicRequestHeader"]


def _read_flag(text: str) -> bool:
    return text == "true" or text.lower() == "true"


def _write_flag(value: bool) -> str:
    return "true" if value else "false"


#: Annotation -> how a value of it is written and read.
_CODECS: dict[str, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    "str": (str, str),
    "int": (str, read_integer),
    "bool": (_write_flag, _read_flag),
}


class _Field(NamedTuple):
    attribute: str
    wire: str
    write: Callable[[Any], str]
    read: Callable[[str], Any]
    default: Any
    required: bool
    unread: bool


_PLANS: dict[type, tuple[_Field, ...]] = {}


class _Reading(NamedTuple):
    """How a class is read.

    :param defaults: attribute -> what it is when the frame does not tell; None for a required one.
    :param fields: wire name -> attribute and how its text is read; texts that are taken as they are have None.
    """

    defaults: dict[str, Any]
    fields: dict[str, tuple[str, Callable[[str], Any] | None]]
    required: tuple[str, ...]


_READINGS: dict[type, _Reading] = {}


def _reading(cls: type[CommandHeader]) -> _Reading:
    """How a class is read, worked out at its first use."""
    reading = _READINGS.get(cls)
    if reading is None:
        plan = _plan(cls)
        reading = _READINGS[cls] = _Reading(
            {field.attribute: field.default for field in plan},
            {field.wire: (field.attribute, None if field.read is str else field.read) for field in plan if not field.unread},
            tuple(field.attribute for field in plan if field.required),
        )
    return reading


def _plan(cls: type[CommandHeader]) -> tuple[_Field, ...]:
    """The fields of a class, worked out at its first use."""
    plan = _PLANS.get(cls)
    if plan is None:
        plan = _PLANS[cls] = _make_plan(cls)
    return plan


def _make_plan(cls: type[CommandHeader]) -> tuple[_Field, ...]:
    plan = []
    for field in fields(cls):
        annotation = str(field.type)
        write, read = _CODECS[annotation.removesuffix(" | None")]
        required = field.default is MISSING
        default = None if required else field.default
        wire = cls._WIRE.get(field.name) or camel_case(field.name)
        plan.append(_Field(field.name, wire, write, read, default, required, field.name in cls._UNREAD))
    return tuple(plan)


@dataclass(slots=True, kw_only=True)
class CommandHeader:
    """The fields of one kind of request or answer."""

    #: The request this header belongs to; an answer's header names the request it answers.
    CODE: ClassVar[RequestCode]
    #: Attribute -> wire name, where camel case is not it.
    _WIRE: ClassVar[Mapping[str, str]] = {}
    #: Attributes that are written but, as in Java, never read.
    _UNREAD: ClassVar[frozenset[str]] = frozenset()

    def to_ext(self) -> dict[str, str | None]:
        """The fields as a frame carries them; those that are None are left out.  Never blocks."""
        ext: dict[str, str | None] = {}
        for attribute, wire, write, _, _, _, _ in _plan(type(self)):
            value = getattr(self, attribute)
            if value is not None:
                ext[wire] = write(value)
        return ext

    @classmethod
    def from_ext(cls, ext: Mapping[str, str | None] | None) -> Self:
        """Read a frame's fields as Java does: unknown ones are ignored, missing ones get their default; never blocks.

        A required field that is missing or is no number becomes None in spite of its type; :meth:`parse` refuses it.

        :param ext: the frame's fields.
        :raises RemoteProtocolError: for a value the class itself refuses.
        """
        return cls._read(ext or {}, insist=False)

    @classmethod
    def parse(cls, ext: Mapping[str, str | None] | None) -> Self:
        """Read a frame's fields and insist on the required ones; never blocks.

        :param ext: the frame's fields.
        :raises RemoteProtocolError: when a required field is missing or cannot be read, or has a value the class refuses.
        """
        return cls._read(ext or {}, insist=True)

    @classmethod
    def _read(cls, ext: Mapping[str, str | None], insist: bool) -> Self:
        defaults, known, required = _reading(cls)
        values = defaults.copy()
        for wire, text in ext.items():
            field = known.get(wire)
            if field is not None and text is not None:
                attribute, read = field
                value = text if read is None else read(text)
                if value is not None:
                    values[attribute] = value
        if insist:
            for attribute in required:
                if values[attribute] is None:
                    raise cls._not_readable(attribute, ext)
        header = cls(**values)
        header._check()
        return header

    @classmethod
    def _not_readable(cls, attribute: str, ext: Mapping[str, str | None]) -> RemoteProtocolError:
        wire = cls.wire_names()[attribute]
        text = ext.get(wire)
        why = "is missing" if text is None else f"cannot be read from {text[:40]!r}"
        return RemoteProtocolError(f"{cls.__name__}: field {wire} {why}")

    @classmethod
    def wire_names(cls) -> dict[str, str]:
        """Attribute -> wire name of all fields."""
        return {field.attribute: field.wire for field in _plan(cls)}

    def _check(self) -> None:
        """Refuse values that may not stand in this header."""


@dataclass(slots=True, kw_only=True)
class RpcRequestHeader(CommandHeader):
    """Fields that nearly every request may carry.

    ============  ======================================================
    ``ns``        the namespace
    ``nsd``       whether names already carry the namespace
    ``bname``     the broker's name; Java clients always fill it
    ``oway``      whether the request is oneway
    ============  ======================================================
    """

    ns: str | None = None
    nsd: bool | None = None
    bname: str | None = None
    oway: bool | None = None


@dataclass(slots=True, kw_only=True)
class TopicRequestHeader(RpcRequestHeader):
    """The same for requests about a topic: ``lo`` says whether the queue id is a logical one of a static topic."""

    lo: bool | None = None
