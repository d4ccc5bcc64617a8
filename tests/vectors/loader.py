"""Reads the vectors and ties each kind of case to the test that checks it.

A case file is ``{"file", "source", ..., "cases": [{"id", "kind", ...}]}``.  The folder comes from ``GROCKETMQ_VECTORS``;
without it the copy beside this module is read.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

FOLDER = pathlib.Path(os.environ.get("GROCKETMQ_VECTORS") or pathlib.Path(__file__).parent / "data")

#: (file, kind) pairs that some test has taken on; filled by :func:`vector`.
TAKEN: set[tuple[str, str]] = set()


@functools.cache
def load(file: str) -> dict[str, Any]:
    """One case file, whole."""
    return json.loads((FOLDER / f"{file}.json").read_text(encoding="utf-8"))


def vector(file: str, *kinds: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test function once for every case of these kinds, handing it over as ``case``."""
    TAKEN.update((file, kind) for kind in kinds)
    found = [case for case in load(file)["cases"] if case["kind"] in kinds] if (FOLDER / f"{file}.json").exists() else []
    return pytest.mark.parametrize("case", found, ids=[case["id"] for case in found])


def body_of(value: dict[str, Any] | None) -> bytes | None:
    """The bytes of a body as the vectors write it; one of which they give the digest only is compared by :func:`same_body`."""
    if value is None:
        return None
    if "hex" in value:
        return bytes.fromhex(value["hex"])
    x, out = value["lcg_seed"], bytearray()
    for _ in range(value["len"]):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
        out.append((x >> 16) & 0xFF)
    return bytes(out)


def same_body(body: bytes, value: dict[str, Any] | None) -> bool:
    """Whether a body is the one that the vectors write so, None standing for an empty one."""
    if value is not None and "sha256" in value:
        return (len(body), hashlib.sha256(body).hexdigest()) == (value["len"], value["sha256"])
    return body == (body_of(value) or b"")
