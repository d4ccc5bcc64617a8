"""Whole numbers as texts, as ``Long.parseLong`` reads them in Java."""

from __future__ import annotations

import re

__all__ = ["INT32", "INT64", "read_integer"]

INT32 = range(-(1 << 31), 1 << 31)
INT64 = range(-(1 << 63), 1 << 63)

_NUMBER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
#: So many digits and more may be too large for 64 bits.
_SAFE_DIGITS = 19


def read_integer(text: str) -> int | None:
    """Read a number of 64 bits; never blocks.

    :param text: decimal digits, a sign before them or not.
    :returns: None for what is no such number.
    """
    if len(text) < _SAFE_DIGITS and text.isascii() and text.isdecimal():
        return int(text)
    if _NUMBER.fullmatch(text) is None:
        return None
    number = int(text)
    return number if number in INT64 else None
