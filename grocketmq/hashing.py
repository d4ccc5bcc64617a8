"""Hashes that every member of a group or a fleet must compute alike."""

from __future__ import annotations

import mmh3

__all__ = ["java_hash_index", "java_long_hash", "java_string_hash", "sharding_hash", "to_int32", "utf16_order"]


def to_int32(number: int) -> int:
    """Wrap a number to a signed 32-bit integer, as Java arithmetic does.

    :param number: any integer.
    :returns: the integer in [-2**31, 2**31) that agrees with it modulo 2**32.
    """
    return (number + 0x80000000 & 0xFFFFFFFF) - 0x80000000


def java_string_hash(text: str) -> int:
    """The value of ``String.hashCode`` in Java: tags, hash selectors and fingerprints are built on it.

    :param text: any string; a character outside the basic plane counts as its two surrogates.
    :returns: a signed 32-bit integer.

    Source: Java SE, class ``java.lang.String``.
    """
    value = 0
    if text.isascii():
        for unit in text.encode("ascii"):
            value = value * 31 + unit & 0xFFFFFFFF
    else:
        units = text.encode("utf-16-be", "surrogatepass")
        for index in range(0, len(units), 2):
            value = value * 31 + (units[index] << 8 | units[index + 1]) & 0xFFFFFFFF
    return to_int32(value)


def java_long_hash(number: int) -> int:
    """The value of ``Long.hashCode`` in Java; an ``Integer`` is its own hash.

    :param number: a signed 64-bit integer.
    :returns: a signed 32-bit integer.
    """
    return to_int32((number ^ number >> 32) & 0xFFFFFFFF)


def java_hash_index(value: int, size: int) -> int:
    """Which of ``size`` places a Java hash selects: the remainder with Java's sign, then its absolute value.

    :param value: a signed 32-bit hash, such as :func:`java_string_hash` gives; the smallest one is harmless.
    :param size: how many places there are.
    :returns: an index below ``size``.

    Source: Apache RocketMQ 5.3.3, module client, class ``SelectMessageQueueByHash``.
    """
    return abs(value) % size


def sharding_hash(sharding_key: str) -> int:
    """Murmur3 (x86, 32 bit, seed 0) of a sharding key's UTF-8 bytes.

    :param sharding_key: any string.
    :returns: a signed 32-bit integer.
    """
    return mmh3.hash(sharding_key.encode("utf-8", "surrogatepass"), signed=True)


def utf16_order(text: str) -> bytes:
    """A sort key that orders strings as ``String.compareTo`` does in Java: by UTF-16 code unit, not by code point.

    Members of a mixed group sort client ids and queues before they share them out, so all must sort alike.

    :param text: any string.
    :returns: bytes whose order is the string's order.
    """
    return text.encode("utf-16-be", "surrogatepass")
