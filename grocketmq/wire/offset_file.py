"""The files in which a broadcasting consumer keeps its offsets: their names, their text, and which of the two counts.

``<directory>/<client id>/<group>/offsets.json`` holds ``{"offsetTable":{{"brokerName":..,"queueId":..,"topic":..}:offset,..}}``
with objects for keys, as Java writes and reads it.  The text before the last write is kept beside it in ``offsets.json.bak``.

Source: Apache RocketMQ 5.3.3, module client, classes ``LocalFileOffsetStore``, ``OffsetSerializeWrapper``; module common, class
``MixAll`` (``string2File``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import NamedTuple

from grocketmq.errors import ConfigError, RemoteProtocolError
from grocketmq.model.route import MessageQueue
from grocketmq.wire.bodies.offsets import OFFSETS

__all__ = [
    "BACKUP_SUFFIX",
    "ReadOffsets",
    "decode_offsets",
    "encode_offsets",
    "merge_offsets",
    "offsets_path",
    "read_offsets",
]

BACKUP_SUFFIX = ".bak"

_FILE_NAME = "offsets.json"


class ReadOffsets(NamedTuple):
    """What was read of a file and its backup.

    :param offsets: queue to offset; empty when there is neither file.
    :param damage: what is wrong with the file, when the backup (or nothing) had to stand in for it.
    """

    offsets: dict[MessageQueue, int]
    damage: RemoteProtocolError | None = None


def offsets_path(client_id: str, group: str) -> PurePath:
    """The file of one group of one client, below the directory of all; never blocks.

    :param client_id: the client's id.
    :param group: the consumer group, namespace included.
    :raises ConfigError: when either would lead out of the directory.
    """
    for what, name in (("client id", client_id), ("group", group)):
        if name in ("", ".", "..") or any(bad in name for bad in "/\\\0"):
            raise ConfigError(f"{what} {name!r} cannot be the name of a directory for offsets")
    return PurePath(client_id, group, _FILE_NAME)


def encode_offsets(offsets: Mapping[MessageQueue, int]) -> bytes:
    """Write a file's text; never blocks.

    :param offsets: queue to offset.
    :returns: UTF-8, the queues in their order.
    :raises LocalProtocolError: when a name cannot be written as UTF-8.
    """
    return OFFSETS.encode({queue: offsets[queue] for queue in sorted(offsets)}, object_keys=True)


def decode_offsets(text: bytes) -> dict[MessageQueue, int]:
    """Read a file's text, with object keys or with their JSON as text; never blocks.

    :param text: the file's content.
    :returns: queue to offset.
    :raises RemoteProtocolError: when the text is damaged.
    """
    return OFFSETS.decode(text)


def read_offsets(text: bytes | None, backup: bytes | None) -> ReadOffsets:
    """What a client goes on from: the file, or its backup when the file is missing, empty or damaged; never blocks.

    :param text: the file's content, None when there is no file.
    :param backup: the backup's content, None when there is none.
    :raises RemoteProtocolError: when the backup was needed and is damaged too.
    """
    damage = None
    if text:
        try:
            return ReadOffsets(decode_offsets(text))
        except RemoteProtocolError as error:
            damage = error
    return ReadOffsets(decode_offsets(backup) if backup else {}, damage)


def merge_offsets(
    stored: Mapping[MessageQueue, int], memory: Mapping[MessageQueue, int], assigned: Collection[MessageQueue]
) -> dict[MessageQueue, int]:
    """What is to be in the file: queues that are not assigned keep what it had, so that they find it when they come back.

    :param stored: the file's offsets.
    :param memory: the consumer's offsets.
    :param assigned: the queues whose offsets are to be stored.
    """
    return {**stored, **{queue: memory[queue] for queue in assigned if queue in memory}}
