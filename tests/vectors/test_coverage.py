"""Every file and every kind of the vectors has a test; a case no test looks at is a failure."""

from __future__ import annotations

import importlib
import json
import pathlib

from tests.vectors.loader import FOLDER, TAKEN

#: Kinds that wait for the feature they belong to; to be empty in the end.
NOT_YET: dict[tuple[str, str], str] = {}


def test_every_kind_is_taken() -> None:
    for module in pathlib.Path(__file__).parent.glob("test_*.py"):
        importlib.import_module(f"tests.vectors.{module.stem}")
    present = {
        (path.stem, case["kind"])
        for path in FOLDER.glob("*.json")
        for case in json.loads(path.read_text(encoding="utf-8"))["cases"]
    }
    assert present, f"no vectors in {FOLDER}"
    assert present - TAKEN - NOT_YET.keys() == set()
    assert NOT_YET.keys() & TAKEN == set(), "a kind that has a test does not wait any more"
