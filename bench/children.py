"""Child processes that speak in lines."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gevent
from gevent.fileobject import FileObject
from gevent.server import StreamServer

__all__ = ["ROOT", "Child", "ChildError", "run_server"]

ROOT = Path(__file__).resolve().parent.parent
CLOSE_TIMEOUT = 10.0


class ChildError(Exception):
    """A child process ended, or did not answer in time."""


class Child:
    """A process that ends when its standard input does; what it says on standard error goes to ours.

    :param command: program and arguments; runs in the root of the repository.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._name = " ".join(command)[:100]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self._output = FileObject(self._process.stdout, "rb")

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def line(self, timeout: float) -> str:
        """The next line it says.

        :raises ChildError: when it says none within ``timeout`` seconds, or has ended.
        """
        with gevent.Timeout(timeout, ChildError(f"{self._name}: silent for {timeout:g} s")):
            text = str(self._output.readline(), "utf-8").strip()
        if not text:
            raise ChildError(f"{self._name}: ended with status {self._process.wait(CLOSE_TIMEOUT)}")
        return text

    def ask(self, command: str, timeout: float) -> str:
        """Write a line; the line it answers."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ChildError(f"{self._name}: ended with status {self._process.wait(CLOSE_TIMEOUT)}") from None
        return self.line(timeout)

    def close(self) -> None:
        """End its input, and it if it does not end by itself."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self._process.wait(CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()


def run_server(serve: Callable[[Any, object], None]) -> None:
    """What a child does that is a server: print its port, serve until its input ends.

    :param serve: serves one connection.
    """
    with_input = FileObject(os.dup(sys.stdin.fileno()), "rb")
    server = StreamServer(("127.0.0.1", 0), serve)
    server.start()
    print(server.server_port, flush=True)
    with_input.read()
    server.stop(timeout=0)
