"""Real servers in processes of their own, and a client for them that shares this process with the embedded cluster."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
from gevent import socket, subprocess

from grocketmq import PullConsumer
from grocketmq.embedded import EmbeddedCluster
from tests.meta.source import ROOT

#: Seconds for a server to answer its first request, and to end.
PATIENCE = 30.0
_REQUEST_TIMEOUT = 20.0


class NoAnswer(Exception):
    """The server did not answer the request; what became of it is unknown."""


class Server:
    """A server that was started; everything it wrote is in ``log``."""

    def __init__(self, process: subprocess.Popen, port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return self._log.read_text()

    def get(self, path: str) -> str:
        """The body of an answer with status 200.

        :raises NoAnswer: for anything else.
        """
        return self._ask(f"GET {path}", "")

    def post(self, path: str, body: str) -> str:
        """As :meth:`get`, of a request with a body."""
        return self._ask(f"POST {path}", body)

    def _ask(self, what: str, sent: str) -> str:
        try:
            with gevent.Timeout(_REQUEST_TIMEOUT, NoAnswer(what)), socket.create_connection(("127.0.0.1", self.port)) as sock:
                head = f"{what} HTTP/1.0\r\nHost: test\r\nConnection: close\r\nContent-Length: {len(sent)}\r\n"
                sock.sendall(f"{head}Content-Type: text/plain\r\n\r\n{sent}".encode())
                answer = b""
                while part := sock.recv(65536):
                    answer += part
        except OSError as error:
            raise NoAnswer(what) from error
        status, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 " not in status.partition(b"\r\n")[0]:
            raise NoAnswer(f"{what}: {answer!r}")
        return body.decode()

    def wait_ready(self, path: str = "/who") -> None:
        """Wait for the first answer."""
        with gevent.Timeout(PATIENCE, AssertionError("no answer from the server")):
            while True:
                try:
                    self.get(path)
                    return
                except NoAnswer:
                    assert self.process.poll() is None, self.log
                    gevent.sleep(0.05)

    def stop(self, how: int = signal.SIGTERM) -> int:
        """Signal it, wait for its end.

        :returns: its exit status.
        """
        self.process.send_signal(how)
        return int(self.process.wait(timeout=PATIENCE))


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def serving(
    command: list[str], cluster: EmbeddedCluster, log: Path, directory: Path = ROOT, **environment: str
) -> Iterator[Server]:
    """Run a server; ``{port}`` in its command is the port it must listen on.  It is killed at the end if it still runs."""
    port = free_port()
    env = {**os.environ, "NAMESRV_ADDR": cluster.namesrv, "PYTHONPATH": str(ROOT), **environment}
    env.pop("GROCKETMQ_NAMESRV", None)
    bin_directory = Path(sys.executable).parent
    program, *arguments = (one.format(port=port) for one in command)
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [str(bin_directory / program), *arguments],
            cwd=directory,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield Server(process, port, log)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Load:
    """Greenlets that ask a server again and again until they are stopped."""

    def __init__(self, ask: Callable[[int], Any], callers: int = 8) -> None:
        self.answers: list[Any] = []
        self.unanswered = 0
        self._stopped = False
        self._numbers = iter(range(10**9))
        self._ask = ask
        self._callers = [gevent.spawn(self._run) for _ in range(callers)]

    def _run(self) -> None:
        while not self._stopped:
            try:
                self.answers.append(self._ask(next(self._numbers)))
            except NoAnswer:
                self.unanswered += 1
                gevent.sleep(0.02)

    def wait_for(self, count: int) -> None:
        """Wait for so many answers more."""
        wanted = len(self.answers) + count
        with gevent.Timeout(PATIENCE, AssertionError(f"{wanted - len(self.answers)} answers are missing")):
            while len(self.answers) < wanted:
                gevent.sleep(0.01)

    def wait_for_processes(self, count: int, told_by: str = "pid") -> None:
        """Wait until so many have answered in all; what each answer tells of its process is named."""
        with gevent.Timeout(PATIENCE, AssertionError(f"{count} processes never answered")):
            while len({one[told_by] for one in self.answers}) < count:
                gevent.sleep(0.02)

    def stop(self) -> list[Any]:
        """End it; the answers."""
        self._stopped = True
        gevent.joinall(self._callers, timeout=PATIENCE, raise_error=True)
        return self.answers


def stored_bodies(cluster: EmbeddedCluster, topic: str) -> list[str]:
    """The bodies of all messages of a topic."""
    bodies = []
    with PullConsumer("judge", namesrv=cluster.namesrv) as consumer:
        for queue in consumer.fetch_subscribe_queues(topic):
            offset, end = consumer.min_offset(queue), consumer.max_offset(queue)
            while offset < end:
                found = consumer.pull(queue, "*", offset)
                bodies += [msg.body.decode() for msg in found.messages]
                offset = found.next_begin_offset
    return bodies


def members(cluster: EmbeddedCluster, group: str) -> list[str]:
    """The client ids of a consumer group, as brokers know them."""
    groups = [broker.clients.consumers.get(group) for broker in cluster.brokers.values()]
    return sorted({member.client_id for found in groups if found for member in found.members.values()})
