"""What a broker has, on disk: an SQLite file that follows what happens in memory.

Changes are gathered and written in one transaction after the other, in a thread of the hub's pool.  Until the transaction that
holds a request's changes is written, the request's answer waits; so what was acknowledged survives the death of the process.
It may not survive the loss of power: nothing waits for the disk itself.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gevent
from gevent.event import Event
from gevent.threadpool import ThreadPool

from grocketmq.embedded.table import Table
from grocketmq.errors import ConfigError
from grocketmq.wire.bodies.schema import Body

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Journal", "LoggedMessage", "Saved", "as_text"]

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (start INTEGER PRIMARY KEY, topic TEXT, queue INTEGER, tags INTEGER, frame BLOB);
CREATE TABLE IF NOT EXISTS state (kind TEXT, key TEXT, value TEXT, PRIMARY KEY (kind, key)) WITHOUT ROWID;
"""
#: The layout above; a file of another one is not touched.
_VERSION = 1
_READ_ROWS = 2_000
_RETRY_PAUSE = 1.0
_BUSY_TIMEOUT = 5.0

_PUT_MESSAGE = "INSERT OR REPLACE INTO log VALUES (?, ?, ?, ?, ?)"
_PUT_STATE = "INSERT OR REPLACE INTO state VALUES (?, ?, ?)"
_DELETE_STATE = "DELETE FROM state WHERE kind = ? AND key = ?"

_Statement = tuple[str, tuple[Any, ...]]


class LoggedMessage(NamedTuple):
    """One message of the commit log."""

    start: int
    topic: str
    queue_id: int
    tags: int
    frame: bytes


class Saved(NamedTuple):
    """A table that is kept.

    :param table: the table; its keys are texts, or tuples of texts and numbers.
    :param encode: a value as what JSON can hold; ``None`` for an entry that need not be kept.
    :param decode: the reverse.
    """

    table: Table[Any, Any]
    encode: Callable[[Any], Any] = lambda value: value
    decode: Callable[[Any], Any] = lambda value: value


def as_text(body: Body[Any]) -> tuple[Callable[[Any], str], Callable[[str], Any]]:
    """How a :class:`Saved` table keeps values that travel as a body."""
    return lambda value: body.encode(value).decode(), lambda text: body.decode(text.encode())


class Journal:
    """One broker's file.

    :param path: the file; it and its directory are created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._saved: dict[str, Saved] = {}
        self._statements: list[_Statement] = []
        self._changed: dict[tuple[str, Any], None] = {}
        self._waiting: list[Callable[[bool], object]] = []
        self._wake = Event()
        self._pool: ThreadPool | None = None
        self._connection: sqlite3.Connection | None = None

    # -- reading -------------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the file; blocks this greenlet only.

        :raises ConfigError: for a file that is none of ours, or is used by another process.
        """
        self._pool = ThreadPool(1)
        try:
            self._connection = self._in_thread(self._connect)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        import sqlite3

        connection = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT, check_same_thread=False, isolation_level=None)
            self._prepare(connection)
        except (sqlite3.Error, OSError, ConfigError) as error:
            if connection is not None:
                connection.close()
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{self.path} cannot be used for data: {error}") from error
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Take the file for this process alone, and have the tables in it."""
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise ConfigError(f"{self.path} has layout {version}, which this release does not know")
        connection.executescript(f"BEGIN EXCLUSIVE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")

    def messages(self) -> Iterator[LoggedMessage]:
        """The messages, in their order; blocks this greenlet only."""
        after = -1
        while rows := self._in_thread(self._read_messages, after):
            for row in rows:
                yield LoggedMessage(*row)
            after = rows[-1][0]

    def _read_messages(self, after: int) -> list[tuple[Any, ...]]:
        assert self._connection is not None
        return self._connection.execute(
            "SELECT * FROM log WHERE start > ? ORDER BY start LIMIT ?", (after, _READ_ROWS)
        ).fetchall()

    def restore(self, saved: Mapping[str, Saved]) -> None:
        """Fill tables with what is kept of them, and follow their changes from now on; blocks this greenlet only.

        :param saved: the tables by name.
        """
        self._saved = dict(saved)
        for kind, text, value in self._in_thread(self._read_state):
            if kind in saved:
                key = json.loads(text)
                one = saved[kind]
                one.table[tuple(key) if isinstance(key, list) else key] = one.decode(json.loads(value))
        for kind, one in saved.items():
            one.table.on_change = lambda key, kind=kind: self._table_changed(kind, key)

    def _read_state(self) -> list[tuple[Any, ...]]:
        assert self._connection is not None
        return self._connection.execute("SELECT kind, key, value FROM state").fetchall()

    # -- following -----------------------------------------------------------------------------------------------------------

    def message(self, message: LoggedMessage) -> None:
        """A message was stored; never blocks."""
        self._note(_PUT_MESSAGE, message)

    def drop_before(self, start: int) -> None:
        """Messages before this place in the log were dropped; never blocks."""
        self._note("DELETE FROM log WHERE start < ?", (start,))

    def forget_topic(self, topic: str) -> None:
        """A topic's messages were dropped; never blocks."""
        self._note("DELETE FROM log WHERE topic = ?", (topic,))

    def hold_back(self, reply: Callable[[bool], object]) -> bool:
        """Have an answer wait for what changed so far; never blocks.

        :param reply: sends the answer; told whether the changes were written.
        :returns: False when nothing has changed, and so nothing need be waited for.
        """
        if not self._statements and not self._changed:
            return False
        self._waiting.append(reply)
        return True

    def _table_changed(self, kind: str, key: Any) -> None:
        self._changed[kind, key] = None
        self._wake.set()

    def _note(self, sql: str, values: tuple[Any, ...]) -> None:
        self._statements.append((sql, values))
        self._wake.set()

    def loop(self) -> None:
        """Writes; what its greenlet runs, for ever."""
        while True:
            self._wake.wait()
            self._wake.clear()
            while not self.flush():
                gevent.sleep(_RETRY_PAUSE)

    def flush(self) -> bool:
        """Write what has changed; blocks this greenlet only.

        :returns: False when it could not be written; it is kept for the next time.
        """
        statements, self._statements = self._statements, []
        changed, self._changed = self._changed, {}
        waiting, self._waiting = self._waiting, []
        statements += [self._statement(kind, key) for kind, key in changed if kind in self._saved]
        written = True
        if statements:
            import sqlite3

            try:
                self._in_thread(self._write, statements)
            except sqlite3.Error as error:
                log.error("%s cannot be written: %s", self.path, error)
                self._statements = statements + self._statements
                written = False
            except BaseException:
                self._statements = statements + self._statements  # written twice they do no harm
                self._waiting = waiting + self._waiting
                raise
        for reply in waiting:
            reply(written)
        return written

    def _statement(self, kind: str, key: Any) -> _Statement:
        one = self._saved[kind]
        value = one.encode(one.table[key]) if key in one.table else None
        text = json.dumps(key)
        return (_DELETE_STATE, (kind, text)) if value is None else (_PUT_STATE, (kind, text, json.dumps(value)))

    def _write(self, statements: list[_Statement]) -> None:
        """Runs in the thread: one transaction, all of it or nothing."""
        connection = self._connection
        assert connection is not None
        connection.execute("BEGIN")
        try:
            first = 0
            for index, (sql, _) in enumerate(statements):
                if sql != statements[first][0]:
                    connection.executemany(statements[first][0], [values for _, values in statements[first:index]])
                    first = index
            connection.executemany(statements[first][0], [values for _, values in statements[first:]])
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    def close(self, *, keep: bool = True) -> None:
        """Write what is left and close the file; blocks this greenlet only.

        :param keep: otherwise nothing is left, also of a file that was closed before.
        :raises ConfigError: for such a file that cannot be opened again.
        """
        if not keep:
            self._drop_all()
        elif self._connection is None and (self._statements or self._changed):
            self.open()
        if self._connection is not None:
            self.flush()
            self._in_thread(self._connection.close)
            self._connection = None
        if self._pool is not None:
            self._pool.kill()
            self._pool = None

    def _drop_all(self) -> None:
        for one in self._saved.values():
            one.table.on_change = None
        self._saved = {}
        self._changed.clear()
        self._statements.clear()
        if self._connection is None and self.path.exists():
            self.open()
        if self._connection is not None:
            self._note("DELETE FROM log", ())
            self._note("DELETE FROM state", ())

    def _in_thread(self, run: Callable[..., Any], *args: Any) -> Any:
        assert self._pool is not None
        result, error = self._pool.apply(_caught, (run, args))
        if error is not None:
            raise error
        return result


def _caught(run: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    """What a function returns, or what it raises: errors that leave a pool's thread are printed there."""
    try:
        return run(*args), None
    except Exception as error:
        return None, error
