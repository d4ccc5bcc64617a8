"""SQL92 filters: conditions over a message's properties, as brokers of RocketMQ read them.

The grammar, words in any case, names of properties as they are written::

    condition  = conjunction { "OR" conjunction }
    conjunction = equality { "AND" equality }
    equality   = comparison { ("=" | "<>") comparison | "IS" ["NOT"] "NULL" }
    comparison = operand { (">" | ">=" | "<" | "<=") operand
                         | ["NOT"] "BETWEEN" operand "AND" operand
                         | ["NOT"] "IN" "(" text { "," text } ")"
                         | ["NOT"] ("CONTAINS" | "STARTSWITH" | "ENDSWITH") text }
    operand    = ("+" | "-" | "NOT") operand | text | number | "TRUE" | "FALSE" | "NULL" | property | "(" condition ")"

A property that is not there is neither true nor false, and so is what is compared with it.  A property is text; compared with a
number it is read as one, and a message whose property is no number of that kind does not match.  What follows a whole condition
is not looked at.

Source: Apache RocketMQ 5.5.0, module filter, ``SelectorParser.jj`` and package ``expression``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from grocketmq.errors import ConfigError

__all__ = ["Condition", "compile_sql"]

#: Whether a message with these properties is wanted.
Condition = Callable[[Mapping[str, str]], bool]

Value = str | int | float | bool | None
_Evaluate = Callable[[Mapping[str, str]], Value]

_TOKEN = re.compile(
    r"""(?:[ \t\n\r\f]|--[^\n\r]*[\n\r]|/\*.*?\*/)*
    (?:(?P<float>\d+\.\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)
    |(?P<integer>0|[1-9]\d*[lL]?)
    |(?P<text>'(?:''|[^'])*')
    |(?P<word>[A-Za-z_$][A-Za-z0-9_$]*)
    |(?P<sign><>|<=|>=|[=<>(),+-]))""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_BLANK = re.compile(r"(?:[ \t\n\r\f]|--[^\n\r]*[\n\r]|/\*.*?\*/)*", re.DOTALL)
_WORDS = frozenset(
    ("NOT", "AND", "OR", "BETWEEN", "IN", "TRUE", "FALSE", "NULL", "IS", "CONTAINS", "STARTSWITH", "ENDSWITH"),
)
_INTEGER = re.compile(r"[+-]?\d{1,19}")
_FLOAT = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)[dDfF]?\s*", re.ASCII)
_INT32 = range(-(1 << 31), 1 << 31)
_INT64 = range(-(1 << 63), 1 << 63)
_SMALLEST_FLOAT = 5e-324


@lru_cache(256)
def compile_sql(expression: str) -> Condition:
    """Read a filter; never blocks.

    :param expression: the filter's text.
    :raises ConfigError: for what brokers refuse; says where it goes wrong.
    """
    try:
        evaluate = _Parser(expression).condition_only()
    except RecursionError:
        raise ConfigError("SQL filter: nested too deep") from None

    def matches(properties: Mapping[str, str]) -> bool:
        try:
            return evaluate(properties) is True
        except (ValueError, RecursionError):
            return False  # a property that is no number where it is compared with one

    return matches


class _Operand(NamedTuple):
    """A part of a condition.

    :param kind: ``constant``, ``property``, ``condition`` (true, false or neither) or ``other``.
    :param value: of a constant its value, of a property its name.
    """

    kind: str
    evaluate: _Evaluate
    value: Value = None


class _Parser:
    """Reads one expression from left to right.

    :param text: the expression.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._kind = self._token = ""
        self._next()

    def condition_only(self) -> _Evaluate:
        return _condition(self._condition()).evaluate

    # -- tokens --------------------------------------------------------------------------------------------------------------

    def _next(self) -> str:
        """The current token; the next one takes its place."""
        before = self._token
        found = _TOKEN.match(self._text, self._at)
        if found is not None:
            assert found.lastgroup is not None
            self._kind, self._token = found.lastgroup, found[found.lastgroup]
            self._at = found.end()
            if self._kind == "word" and self._token.upper() in _WORDS:
                self._kind, self._token = "sign", self._token.upper()
        else:
            blank = _BLANK.match(self._text, self._at)
            at = self._at if blank is None else blank.end()
            if at < len(self._text):
                raise ConfigError(f"SQL filter: {self._text[at : at + 20]!r} at {at} begins nothing that it may hold")
            self._kind, self._token = "end", ""
        return before

    def _take(self, *signs: str) -> str | None:
        """The current token if it is one of these, which is then behind us."""
        return self._next() if self._kind == "sign" and self._token in signs else None

    def _expect(self, sign: str) -> None:
        if self._take(sign) is None:
            raise self._unexpected(sign)

    def _unexpected(self, wanted: str) -> ConfigError:
        found = repr(self._token) if self._kind != "end" else "its end"
        return ConfigError(f"SQL filter {self._text[:200]!r}: {wanted} expected before {self._at}, not {found}")

    # -- the grammar ---------------------------------------------------------------------------------------------------------

    def _condition(self) -> _Operand:
        return self._joined("OR", self._conjunction, True)

    def _conjunction(self) -> _Operand:
        return self._joined("AND", self._equality, False)

    def _joined(self, word: str, part: Callable[[], _Operand], decided: bool) -> _Operand:
        """Conditions joined by a word; the first that has the value ``decided`` settles all."""
        first = part()
        if not (self._kind == "sign" and self._token == word):
            return first
        parts = [_condition(first).evaluate]
        while self._take(word):
            parts.append(_condition(part()).evaluate)

        def evaluate(properties: Mapping[str, str]) -> Value:
            unknown = False
            for one in parts:
                value = one(properties)
                if value is decided:
                    return decided
                unknown |= value is None
            return None if unknown else not decided

        return _Operand("condition", evaluate)

    def _equality(self) -> _Operand:
        left = self._comparison()
        while sign := self._take("=", "<>", "IS"):
            if sign == "IS":
                negated = self._take("NOT") is not None
                self._expect("NULL")
                left = _negated(_is_null(left), negated)
            else:
                left = _negated(_equal(left, self._comparison()), sign == "<>")
        return left

    def _comparison(self) -> _Operand:
        left = self._operand()
        while sign := self._take(">", ">=", "<", "<=", "NOT", "BETWEEN", "IN", "CONTAINS", "STARTSWITH", "ENDSWITH"):
            negated = sign == "NOT"
            if negated:
                sign = self._take("BETWEEN", "IN", "CONTAINS", "STARTSWITH", "ENDSWITH")
            if sign is None:
                raise self._unexpected("BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH")
            if sign == "BETWEEN":
                low = self._operand()
                self._expect("AND")
                left = _between(left, low, self._operand(), negated)
            elif sign == "IN":
                left = _among(left, self._texts(), negated)
            elif sign in _TEXT_TESTS:
                left = _text_test(left, _TEXT_TESTS[sign], self._a_text(), negated)
            else:
                left = _ordered(left, sign, self._operand())
        return left

    def _operand(self) -> _Operand:
        if self._take("+"):
            return self._operand()
        if self._take("-"):
            return _minus(self._operand())
        if self._take("NOT"):
            return _negated(_condition(self._operand()), True)
        if self._take("("):
            inner = self._condition()
            self._expect(")")
            return inner
        if word := self._take("TRUE", "FALSE", "NULL"):
            return _constant({"TRUE": True, "FALSE": False, "NULL": None}[word])
        if self._kind == "text":
            return _constant(self._a_text())
        if self._kind == "integer":
            return _constant(_integer(self._next()))
        if self._kind == "float":
            return _constant(_float(self._next()))
        if self._kind == "word":
            name = self._next()
            return _Operand("property", lambda properties: properties.get(name), name)
        raise self._unexpected("a property, a number, a text or a condition")

    def _a_text(self) -> str:
        if self._kind != "text":
            raise self._unexpected("a text in single quotes")
        return self._next()[1:-1].replace("''", "'")

    def _texts(self) -> frozenset[str]:
        self._expect("(")
        texts = {self._a_text()}
        while self._take(","):
            texts.add(self._a_text())
        self._expect(")")
        return frozenset(texts)


# -- operands ----------------------------------------------------------------------------------------------------------------


def _constant(value: Value) -> _Operand:
    return _Operand("constant", lambda properties: value, value)


def _integer(text: str) -> int:
    value = int(text.rstrip("lL"))
    if value not in _INT64:
        raise ConfigError(f"SQL filter: the number {text} does not fit 64 bits")
    return value


def _float(text: str) -> float:
    value = float(text)
    if not _SMALLEST_FLOAT <= value < float("inf"):
        raise ConfigError(f"SQL filter: the number {text} is too small or too large; brokers refuse 0.0 too, write 0")
    return value


def _condition(operand: _Operand) -> _Operand:
    """What is used as a condition: a property, being text, is never true."""
    if operand.kind == "property":
        return _Operand("condition", lambda properties: None if operand.evaluate(properties) is None else False)
    if operand.kind == "condition" or (operand.kind == "constant" and isinstance(operand.value, bool | None)):
        return operand
    raise ConfigError("SQL filter: a number or a text where a condition is wanted")


def _negated(operand: _Operand, negated: bool) -> _Operand:
    if not negated:
        return operand

    def evaluate(properties: Mapping[str, str]) -> Value:
        value = operand.evaluate(properties)
        return None if value is None else not value

    return _Operand("condition", evaluate)


def _minus(operand: _Operand) -> _Operand:
    def evaluate(properties: Mapping[str, str]) -> Value:
        value = operand.evaluate(properties)
        return -value if isinstance(value, int | float) and not isinstance(value, bool) else None

    return _Operand("other", evaluate)


# -- comparisons -------------------------------------------------------------------------------------------------------------


def _is_null(operand: _Operand) -> _Operand:
    return _Operand("condition", lambda properties: operand.evaluate(properties) is None)


def _equal(left: _Operand, right: _Operand) -> _Operand:
    for operand in (left, right):
        if operand.kind == "constant" and operand.value is None:
            raise ConfigError("SQL filter: nothing equals NULL; write IS NULL")
    if left.kind == right.kind == "constant" and isinstance(left.value, bool) and not isinstance(right.value, bool):
        raise ConfigError("SQL filter: TRUE or FALSE is compared with a number or a text")

    def evaluate(properties: Mapping[str, str]) -> Value:
        one, other = left.evaluate(properties), right.evaluate(properties)
        if one is None:
            return True if other is None else None
        return False if other is None else _compare(one, other) == 0

    return _Operand("condition", evaluate)


_ORDER: Mapping[str, Callable[[int], bool]] = {
    ">": lambda order: order > 0,
    ">=": lambda order: order >= 0,
    "<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
}


def _ordered(left: _Operand, sign: str, right: _Operand) -> _Operand:
    for operand in (left, right):
        if operand.kind == "condition" or (operand.kind == "constant" and not _is_number(operand.value)):
            raise ConfigError(f"SQL filter: {sign} compares numbers, not texts or conditions")
    holds = _ORDER[sign]

    def evaluate(properties: Mapping[str, str]) -> Value:
        one, other = left.evaluate(properties), right.evaluate(properties)
        return None if one is None or other is None else holds(_compare(one, other))

    return _Operand("condition", evaluate)


def _between(operand: _Operand, low: _Operand, high: _Operand, negated: bool) -> _Operand:
    if negated:
        parts = _ordered(operand, "<", low).evaluate, _ordered(operand, ">", high).evaluate
    else:
        parts = _ordered(operand, ">=", low).evaluate, _ordered(operand, "<=", high).evaluate
        if low.kind == high.kind == "constant" and low.value > high.value:  # type: ignore[operator]
            raise ConfigError(f"SQL filter: nothing lies between {low.value} and {high.value}")

    def evaluate(properties: Mapping[str, str]) -> Value:
        values = [part(properties) for part in parts]
        if negated in values:
            return negated
        return None if None in values else not negated

    return _Operand("condition", evaluate)


def _among(operand: _Operand, texts: frozenset[str], negated: bool) -> _Operand:
    if operand.kind != "property":
        raise ConfigError("SQL filter: IN is asked of a property only")

    def evaluate(properties: Mapping[str, str]) -> Value:
        value = operand.evaluate(properties)
        return None if value is None else (value in texts) is not negated

    return _Operand("condition", evaluate)


_TEXT_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "CONTAINS": str.__contains__,
    "STARTSWITH": str.startswith,
    "ENDSWITH": str.endswith,
}


def _text_test(operand: _Operand, test: Callable[[str, str], bool], text: str, negated: bool) -> _Operand:
    """Asked of what is no text, and with an empty text, it is false even when negated."""

    def evaluate(properties: Mapping[str, str]) -> Value:
        value = operand.evaluate(properties)
        return isinstance(value, str) and text != "" and test(value, text) is not negated

    return _Operand("condition", evaluate)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _compare(left: str | int | float | bool, right: str | int | float | bool) -> int:
    """-1, 0 or 1; values of different sorts are unequal, -1.

    :raises ValueError: for a text that is no number where it is compared with one.
    """
    if isinstance(left, str) and not isinstance(right, str):
        left = _like(left, right)
    elif isinstance(right, str) and not isinstance(left, str):
        if isinstance(left, bool):
            raise ValueError("a text on the right of a condition")  # an error inside brokers
        right = _like(right, left)
    if isinstance(left, str) and isinstance(right, str):
        one, other = left.encode("utf-16-be", "surrogatepass"), right.encode("utf-16-be", "surrogatepass")
        return (one > other) - (one < other)
    if isinstance(left, bool) is not isinstance(right, bool):
        return -1
    return (left > right) - (left < right)  # type: ignore[operator]


def _like(text: str, other: int | float | bool) -> int | float | bool:
    """A text read as what it is compared with."""
    if isinstance(other, bool):
        return text.lower() == "true"
    if isinstance(other, float):
        number = _FLOAT.fullmatch(text)
        if number is None:
            raise ValueError(text)
        return float(number[1])
    value = int(text) if _INTEGER.fullmatch(text) else None
    if value is None or value not in (_INT32 if other in _INT32 else _INT64):
        raise ValueError(text)
    return value
