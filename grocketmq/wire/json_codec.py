"""JSON as RocketMQ's servers write it, which is not always JSON.

Java's side writes a map keyed by numbers or by queues with raw keys: ``{0:"10.0.0.1:10911"}``, ``{{"brokerName":"a",...}:5}``.
Reading tries strict JSON first and falls back on a tolerant parser; writing offers both forms.

In memory an object is a ``dict`` (keys are ``str``, raw number keys are ``int``), or :class:`Pairs` as soon as one of its keys
is itself an object.  ``{"$ref":"$.path"}``, written in place of an object that stands elsewhere in the same text, is
replaced by what it names.

Source: Apache RocketMQ 5.3.3, module remoting, class ``RemotingSerializable`` (fastjson 1.2.83, whose ``SerialContext`` makes
the paths).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grocketmq.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["MAX_DEPTH", "MAX_REFERENCED_NODES", "MAX_TOLERANT_VALUES", "Pairs", "dumps", "loads_tolerant"]

#: How deep values may nest: the deepest body of the protocol nests six levels, and the parser is recursive.
MAX_DEPTH = 64

#: How many values all references of one text may stand for; without a bound a short text could stand for gigabytes.
MAX_REFERENCED_NODES = 1_000_000

#: How many values the tolerant parser reads by itself, at some microseconds each: it must not hold the process for long.  The
#: entries of the largest tables are strict JSON, which does not count.
MAX_TOLERANT_VALUES = 500_000

#: Inside a text that is not strict JSON as a whole, the strict parser (in C) is tried again for each object and list, as long
#: as all failed tries together have cost less than this many scans of the whole text.  A failure costs the characters it got
#: to see, and a share of the text for finding its line number.
_RETRY_SCANS = 2
_FAILURE_SHARE = 64

_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER_KEY = re.compile(r"-?\d{1,19}(?!\w)", re.ASCII)
_BARE_KEY = re.compile(r"[A-Za-z_$][\w$]*")
_SINGLE_QUOTED = re.compile(r"'([^'\\]*(?:\\.[^'\\]*)*)'", re.DOTALL)
_QUOTE_OR_ESCAPE = re.compile(r'\\.|"', re.DOTALL)
_REFERENCE_STEP = re.compile(r"\.((?:\\.|[^.\[\\])+)|\[(\d{1,9})\]", re.DOTALL)
_REFERENCE = "$ref"


@dataclass(slots=True)
class Pairs:
    """An object with a key that is itself an object.

    :param items: its (key, value) pairs in their order.
    """

    items: list[tuple[Any, Any]]


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, strict=False)


def loads_tolerant(data: bytes | str, what: str = "JSON") -> Any:
    """Read strict JSON, or what Java writes in its place; never blocks.

    :param data: the text, as UTF-8 when bytes.
    :param what: what is being read, for the error's message.
    :returns: the value, see the module's text for its form.
    :raises RemoteProtocolError: for anything that cannot be read; no other exception.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(f"{what}: no UTF-8 at byte {error.start}: {error.reason}") from None
    try:
        try:
            value = _DECODER.decode(text)
        except ValueError:
            value = _TolerantParser(text, what).parse()
        if f'"{_REFERENCE}"' in text:
            value = _resolve_references(value, what)
    except RecursionError:
        raise RemoteProtocolError(f"{what}: nested too deeply") from None
    return value


class _TolerantParser:
    """Recursive descent over one text; every method takes a position and returns the value and the position behind it."""

    __slots__ = ("_retry_budget", "_values_left", "text", "what")

    def __init__(self, text: str, what: str) -> None:
        self.text = text
        self.what = what
        self._retry_budget = _RETRY_SCANS * len(text)
        self._values_left = MAX_TOLERANT_VALUES

    def parse(self) -> Any:
        value, end = self._value(self._skip(0), 0)
        end = self._skip(end)
        if end != len(self.text):
            raise self._error(end, "end of text expected")
        return value

    def _error(self, at: int, why: str) -> RemoteProtocolError:
        return RemoteProtocolError(f"{self.what}: {why} at character {at}: {self.text[at : at + 24]!r}")

    def _skip(self, at: int) -> int:
        match = _SPACE.match(self.text, at)
        return match.end() if match else at

    def _value(self, at: int, depth: int) -> tuple[Any, int]:
        if depth > MAX_DEPTH:
            raise self._error(at, f"nested deeper than {MAX_DEPTH}")
        self._values_left -= 1
        if self._values_left < 0:
            raise self._error(at, f"more than {MAX_TOLERANT_VALUES} values beside strict JSON")
        first = self.text[at : at + 1]
        if first == "'":
            return self._single_quoted(at)
        if first not in ("{", "["):
            return self._strict(at)
        if depth and self._retry_budget > 0:
            try:
                return _DECODER.raw_decode(self.text, at)
            except json.JSONDecodeError as error:
                self._retry_budget -= error.pos - at + len(self.text) // _FAILURE_SHARE
            except ValueError:
                self._retry_budget = 0
        return self._object(at, depth) if first == "{" else self._array(at, depth)

    def _strict(self, at: int) -> tuple[Any, int]:
        try:
            return _DECODER.raw_decode(self.text, at)
        except ValueError as error:
            raise self._error(at, f"value expected ({error})") from None

    def _single_quoted(self, at: int) -> tuple[str, int]:
        match = _SINGLE_QUOTED.match(self.text, at)
        if match is None:
            raise self._error(at, "text without an end")
        inner = _QUOTE_OR_ESCAPE.sub(lambda found: {"\\'": "'", '"': '\\"'}.get(found[0], found[0]), match[1])
        try:
            value = _DECODER.decode(f'"{inner}"')
        except ValueError as error:
            raise self._error(at, f"bad text ({error})") from None
        assert isinstance(value, str)
        return value, match.end()

    def _array(self, at: int, depth: int) -> tuple[list[Any], int]:
        values: list[Any] = []
        at = self._skip(at + 1)
        if self.text.startswith("]", at):
            return values, at + 1
        while True:
            value, at = self._value(at, depth + 1)
            values.append(value)
            at, more = self._next(at, "]")
            if not more:
                return values, at

    def _object(self, at: int, depth: int) -> tuple[dict[Any, Any] | Pairs, int]:
        items: list[tuple[Any, Any]] = []
        at = self._skip(at + 1)
        if self.text.startswith("}", at):
            return {}, at + 1
        while True:
            key, at = self._key(at, depth)
            at = self._skip(at)
            if not self.text.startswith(":", at):
                raise self._error(at, "':' expected")
            value, at = self._value(self._skip(at + 1), depth + 1)
            items.append((key, value))
            at, more = self._next(at, "}")
            if not more:
                break
        if all(isinstance(key, (str, int)) for key, _ in items):
            return dict(items), at
        return Pairs(items), at

    def _next(self, at: int, closing: str) -> tuple[int, bool]:
        at = self._skip(at)
        if self.text.startswith(",", at):
            return self._skip(at + 1), True
        if self.text.startswith(closing, at):
            return at + 1, False
        raise self._error(at, f"',' or {closing!r} expected")

    def _key(self, at: int, depth: int) -> tuple[Any, int]:
        if self.text[at : at + 1] in ('"', "'", "{"):
            return self._value(at, depth + 1)
        number = _NUMBER_KEY.match(self.text, at)
        if number:
            return int(number[0]), number.end()
        bare = _BARE_KEY.match(self.text, at)
        if bare is None:
            raise self._error(at, "key expected")
        return bare[0], bare.end()


def _children(node: Any) -> list[Any]:
    """The values directly inside a value; an object key counts as one of them."""
    if isinstance(node, list):
        return node
    if isinstance(node, dict):
        return list(node.values())
    if isinstance(node, Pairs):
        return [part for item in node.items for part in item]
    return []


def _is_reference(node: Any) -> bool:
    return isinstance(node, dict) and len(node) == 1 and isinstance(node.get(_REFERENCE), str)


def _resolve_references(root: Any, what: str) -> Any:
    """Put what they name in the place of all references, in place.

    A reference to something that still holds references is refused, so no value can contain itself.
    """
    budget = MAX_REFERENCED_NODES

    def resolved(node: Any) -> Any:
        nonlocal budget
        if not _is_reference(node):
            return node
        path = node[_REFERENCE]
        target = _follow(root, path, what)
        todo = [target]
        while todo:
            inner = todo.pop()
            budget -= 1
            if budget < 0:
                raise RemoteProtocolError(f"{what}: references stand for more than {MAX_REFERENCED_NODES} values")
            if _is_reference(inner):
                raise RemoteProtocolError(f"{what}: reference {path[:80]!r} leads to another reference")
            todo.extend(_children(inner))
        return target

    containers = [resolved(root)]
    while containers:
        node = containers.pop()
        before = _children(node)
        if isinstance(node, list):
            node[:] = [resolved(value) for value in node]
        elif isinstance(node, dict):
            for key, value in node.items():
                node[key] = resolved(value)
        elif isinstance(node, Pairs):
            node.items = [(resolved(key), resolved(value)) for key, value in node.items]
        containers.extend(child for child in before if not _is_reference(child))
    return root


def _follow(root: Any, path: str, what: str) -> Any:
    """What a reference such as ``$.table.some\\-name[0]`` names."""
    node, at = root, 1
    while at < len(path):
        step = _REFERENCE_STEP.match(path, at)
        found = step and path[0] == "$" and _step(node, step)
        if not step or not found:
            break
        node, at = found[0], step.end()
    if path[:1] != "$" or at < len(path):
        raise RemoteProtocolError(f"{what}: reference {path[:80]!r} leads nowhere")
    return node


def _step(node: Any, step: re.Match[str]) -> Sequence[Any]:
    """One step of a path: the value in a list of one, or an empty one."""
    name, index = step[1], step[2]
    if isinstance(node, list):
        return node[int(index) : int(index) + 1] if index else []
    if not isinstance(node, dict):
        return []
    keys = (int(index), index) if index else (re.sub(r"\\(.)", r"\1", name, flags=re.DOTALL),)
    return [node[key] for key in keys if key in node][:1]


def dumps(value: Any, *, object_keys: bool = False) -> bytes:
    """Write compact JSON as UTF-8; never blocks.

    :param value: dicts (keys ``str`` or ``int``), lists, tuples, :class:`Pairs`, texts, numbers, booleans and None.
    :param object_keys: False for strict JSON, in which a key that is an object becomes its own JSON as text (Java reads that
        as well); True for raw number and object keys, the form old peers and tools expect.
    :raises LocalProtocolError: for a value that JSON cannot express.
    """
    try:
        text = "".join(_raw(value)) if object_keys else _strict(value)
        return text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise LocalProtocolError(f"cannot be written as JSON: {error}") from error


def _strict(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_with_text_keys)


def _with_text_keys(value: Any) -> dict[str, Any]:
    if not isinstance(value, Pairs):
        raise TypeError(f"{type(value).__name__} is no JSON value")
    return {key if isinstance(key, str) else _strict(key): inner for key, inner in value.items}


def _raw(value: Any) -> list[str]:
    """The pieces of the text with raw keys."""
    if isinstance(value, (dict, Pairs)):
        items = value.items if isinstance(value, Pairs) else list(value.items())
        out = []
        for key, inner in items:
            out += [",", *_raw(key), ":", *_raw(inner)]
        return ["{", *out[1:], "}"]
    if isinstance(value, (list, tuple)):
        out = []
        for inner in value:
            out += [",", *_raw(inner)]
        return ["[", *out[1:], "]"]
    return [_strict(value)]
