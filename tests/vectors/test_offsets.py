"""Offset files are named, written, merged and read as Java does it.  This is about names and texts: no file is touched."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

import pytest

from grocketmq.errors import RemoteProtocolError
from grocketmq.model.route import MessageQueue
from grocketmq.wire.json_codec import Pairs, loads_tolerant
from grocketmq.wire.offset_file import (
    BACKUP_SUFFIX,
    decode_offsets,
    encode_offsets,
    merge_offsets,
    offsets_path,
    read_offsets,
)
from tests.vectors.loader import vector

Offsets = dict[MessageQueue, int]


def offsets_of(rows: list[list[Any]]) -> Offsets:
    return {MessageQueue(topic, broker_name, queue_id): offset for topic, broker_name, queue_id, offset in rows}


def shape(text: bytes | str) -> Any:
    """The JSON's value with maps in a fixed order."""

    def sort(value: Any) -> Any:
        if isinstance(value, (dict, Pairs)):
            items = value.items if isinstance(value, Pairs) else value.items()
            return "object", sorted((repr(sort(key)), repr(sort(inner))) for key, inner in items)
        return value

    return sort(loads_tolerant(text))


def assert_same_file(written: bytes, java: dict[str, str]) -> None:
    assert shape(written) == shape(java["text"]) == shape(bytes.fromhex(java["bytes_hex"]))
    assert decode_offsets(written) == decode_offsets(bytes.fromhex(java["bytes_hex"]))


@vector("offsets", "written")
def test_written(case: dict[str, Any]) -> None:
    name = offsets_path(case["client_id"], case["group"])
    first = offsets_of(case["offsets"])
    assert (str(name) in case["files"]) == bool(first)
    for file, java in case["files"].items():
        assert PurePath(file) == name
        assert_same_file(encode_offsets(first), java)
    if "files_after_second_write" in case:
        after = case["files_after_second_write"]
        second = offsets_of(case["offsets_after_second_write"])
        assert set(after) == {str(name), str(name) + BACKUP_SUFFIX}
        assert_same_file(encode_offsets(second), after[str(name)])
        assert_same_file(encode_offsets(first), after[str(name) + BACKUP_SUFFIX])
        assert read_offsets(bytes.fromhex(after[str(name)]["bytes_hex"]), None).offsets == offsets_of(case["reloaded"])


@vector("offsets", "merge")
def test_merge(case: dict[str, Any]) -> None:
    [main] = [file for file in case["files"] if not file.endswith(BACKUP_SUFFIX)]
    [(topic, broker_name)] = {(row[0], row[1]) for row in case["reloaded"]}
    texts: list[bytes] = []
    memory: Offsets = {}
    for step in case["steps"].split("; "):
        run_step(step, lambda number: MessageQueue(topic, broker_name, number), memory, texts)
    assert_same_file(texts[-1], case["files"][main])
    assert_same_file(texts[-2], case["files"][main + BACKUP_SUFFIX])
    stored = decode_offsets(texts[-1])
    assert stored == offsets_of(case["reloaded"])
    for read in case["reads"]:
        assert memory[MessageQueue(topic, broker_name, read["queue"])] == read["memory"]
        assert stored.get(MessageQueue(topic, broker_name, read["queue"]), -1) == read["store"]


def run_step(step: str, queue: Any, memory: Offsets, texts: list[bytes]) -> None:
    """One step of a script; ``texts`` are all that the file has held."""
    numbers = [int(number) for number in re.findall(r"\d+", step)]
    if step.startswith("set "):
        first, last, offset = numbers[:3]
        memory.update({queue(number): offset + number - first for number in range(first, last + 1)})
    elif step.startswith("update("):
        old = memory.get(queue(numbers[0]), -1)
        memory[queue(numbers[0])] = max(old, numbers[1]) if "increaseOnly" in step else numbers[1]
    elif step.startswith("persistAll{"):
        stored = decode_offsets(texts[-1]) if texts else {}
        texts.append(encode_offsets(merge_offsets(stored, memory, [queue(number) for number in numbers])))
    else:
        pytest.fail(f"step {step!r} is unknown")


@vector("offsets", "read")
def test_read(case: dict[str, Any]) -> None:
    main, backup = (None if text is None else text.encode() for text in (case["main"], case["bak"]))
    if case["error"]:
        with pytest.raises(RemoteProtocolError):
            read_offsets(main, backup)
    else:
        assert read_offsets(main, backup).offsets == offsets_of(case["loaded"])
