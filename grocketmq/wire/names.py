"""How our names become the names on the wire."""

from __future__ import annotations

__all__ = ["camel_case"]


def camel_case(name: str) -> str:
    """The wire's spelling of one of our attribute names: ``consumer_group`` becomes ``consumerGroup``.

    :param name: a name in snake case.
    """
    first, *others = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in others)
