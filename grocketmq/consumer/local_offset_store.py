"""Offsets in local files, for groups each of whose members gets every message.

Source: Apache RocketMQ 5.3.3, module client, class ``LocalFileOffsetStore``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from gevent.lock import RLock

from grocketmq.client.instance import ClientInstance
from grocketmq.errors import ConfigError, RemoteProtocolError
from grocketmq.model.route import MessageQueue
from grocketmq.runtime.pool import in_pool
from grocketmq.runtime.turns import in_turns
from grocketmq.wire.offset_file import BACKUP_SUFFIX, encode_offsets, merge_offsets, offsets_path, read_offsets

__all__ = ["LocalFileOffsetStore"]

log = logging.getLogger(__name__)

#: Where files are kept unless a directory is given, below the home directory; the same as Java's.
_DEFAULT_DIRECTORY = ".rocketmq_offsets"
_NEW_SUFFIX = ".new"


class LocalFileOffsetStore:
    """Offsets in ``<directory>/<address>@<instance name>/<group>/offsets.json``, in Java's own format.

    Two processes of one host need different instance names, or they share the file.  A write is crash-safe: the new
    text is brought to the disk before it takes the old one's place, and the old one stays beside it as
    ``offsets.json.bak``.  Files are read and written in the hub's thread pool.

    :param directory: where the files are kept.  Default: ``.rocketmq_offsets`` in the home directory.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        self._directory = Path(directory) if directory is not None else Path.home() / _DEFAULT_DIRECTORY
        self._offsets: dict[MessageQueue, int] = {}
        self._frozen: set[MessageQueue] = set()
        self._on_disk: dict[MessageQueue, int] = {}
        self._writing = RLock()
        self._failing = False

    def open(self, instance: ClientInstance, group: str) -> None:
        """Read the file; blocks for that.

        :raises ConfigError: when the file and its backup are both damaged, or cannot be read.
        """
        self._path = self._directory / offsets_path(instance.stable_id, group)
        try:
            self._on_disk = in_pool(_read, self._path)
        except (OSError, RemoteProtocolError) as error:
            raise ConfigError(f"offsets in {self._path} cannot be read; mend or remove the file: {error}") from error
        self._offsets = dict(self._on_disk)
        self._frozen = set()
        self._writing = RLock()

    def read(self, queue: MessageQueue) -> int | None:
        """The offset in the file; never blocks."""
        return self._on_disk.get(queue)

    def in_memory(self, queue: MessageQueue) -> int | None:
        """See :class:`~grocketmq.consumer.offset_store.OffsetStore`."""
        return self._offsets.get(queue)

    def update(self, queue: MessageQueue, offset: int, *, increase_only: bool) -> None:
        """See :class:`~grocketmq.consumer.offset_store.OffsetStore`."""
        if queue not in self._frozen and (not increase_only or offset > self._offsets.get(queue, -1)):
            self._offsets[queue] = offset

    def update_and_freeze(self, queue: MessageQueue, offset: int) -> None:
        """See :class:`~grocketmq.consumer.offset_store.OffsetStore`."""
        self._offsets[queue] = offset
        self._frozen.add(queue)

    def persist(self, queues: Iterable[MessageQueue]) -> None:
        """Write the file if anything changed; blocks for that.  An error is logged and the write is tried again next time."""
        self._try_to_write(queues)

    def persist_one(self, queue: MessageQueue) -> bool:
        """Write the file with the offset of one queue; blocks for that.

        :returns: whether there is nothing left to store.
        """
        return self._try_to_write([queue])

    def flush(self, queues: Iterable[MessageQueue]) -> None:
        """Write the file if anything changed; blocks for that.

        :raises ConfigError: when it cannot be written.
        """
        try:
            self._write(queues)
        except OSError as error:
            raise ConfigError(f"offsets cannot be written to {self._path}: {error}") from error

    def remove(self, queue: MessageQueue) -> None:
        """Forget the offset in memory; the file keeps it."""
        self._offsets.pop(queue, None)
        self._frozen.discard(queue)

    def _try_to_write(self, queues: Iterable[MessageQueue]) -> bool:
        try:
            self._write(queues)
            return True
        except OSError as error:
            if not self._failing:
                self._failing = True
                log.error("offsets not written to %s, tried again later: %s", self._path, error)
            return False

    def _write(self, queues: Iterable[MessageQueue]) -> None:
        with self._writing:
            moved = [queue for queue in in_turns(queues) if self._offsets.get(queue) != self._on_disk.get(queue)]
            merged = merge_offsets(self._on_disk, self._offsets, moved)
            if merged != self._on_disk:
                in_pool(_write, self._path, merged)
                self._failing = False
                self._on_disk = merged


def _read(path: Path) -> dict[MessageQueue, int]:
    found = read_offsets(_bytes(path), _bytes(path.with_name(path.name + BACKUP_SUFFIX)))
    if found.damage is not None:
        log.warning("%s is damaged (%s); going on from its backup", path, found.damage)
    return found.offsets


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write(path: Path, offsets: dict[MessageQueue, int]) -> None:
    """Old text to the backup, new text in its place; at every moment one of the two files is whole."""
    text = encode_offsets(offsets)
    path.parent.mkdir(parents=True, exist_ok=True)
    old = _bytes(path)
    if old is not None:
        _replace(path.with_name(path.name + BACKUP_SUFFIX), old)
    _replace(path, text)


def _replace(path: Path, text: bytes) -> None:
    new = path.with_name(path.name + _NEW_SUFFIX)
    with open(new, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
