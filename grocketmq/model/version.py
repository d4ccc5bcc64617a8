"""Names of the version numbers that peers tell each other.

A number counts releases and their snapshots; from 3.0.1 on each release has the number after its snapshot's.

Source: Apache RocketMQ 5.3.3, module common, class ``MQVersion``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

__all__ = ["version_name", "version_number"]

#: What came before 3.0.1.
_FIRST = (
    "SNAPSHOT",
    "ALPHA1",
    *(f"BETA{number}" for number in range(1, 6)),
    *(f"BETA{number}{suffix}" for number in range(6, 10) for suffix in ("_SNAPSHOT", "")),
    "FINAL",
)
_HIGHER = "HIGHER_VERSION"


def version_name(number: int) -> str:
    """The name of a version number, such as ``V5_3_3`` for 479; ``HIGHER_VERSION`` beyond the last known.

    :param number: as a peer told it.
    """
    names = _names()
    return names[number] if 0 <= number < len(names) else _HIGHER


def version_number(name: str) -> int:
    """The number of a version's name.

    :param name: such as ``V5_3_3``.
    :raises ValueError: for a name that no release has.
    """
    return _names().index(name)


@cache
def _names() -> tuple[str, ...]:
    names = [f"V3_0_0_{stage}" for stage in _FIRST]
    for release in _releases():
        names += (f"{release}_SNAPSHOT", release)
    return (*names, _HIGHER)


def _releases() -> Iterator[str]:
    """3.0.1 to 3.0.15, then minors of ten patches each; those from 3.3 to 3.9 begin at patch 1."""
    yield from (f"V3_0_{patch}" for patch in range(1, 16))
    for major in (3, 4, 5):
        for minor in range(1 if major == 3 else 0, 10):
            first = 1 if major == 3 and minor >= 3 else 0
            yield from (f"V{major}_{minor}_{patch}" for patch in range(first, 10))
