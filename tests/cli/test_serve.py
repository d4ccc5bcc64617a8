"""``grocketmq serve`` as a program."""

from __future__ import annotations

import os
import pty
import random
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
import pytest
from gevent import socket, subprocess

from grocketmq import GRocketMQError, Message, MessageQueue, Producer, PullConsumer
from tests.helpers import wait_for
from tests.meta.source import ROOT

pytest.importorskip("click")
pytest.importorskip("rich")

#: It runs as a program, which is the same wherever this runs.
pytestmark = pytest.mark.slow

PATIENCE = 30.0
#: Less than a call to a peer that is gone may take (10 s).
STOPPED_WITHIN = 8.0


class Served:
    """A running ``grocketmq serve``.

    :param options: of the command.
    """

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "grocketmq.cli", "serve", *options],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        with gevent.Timeout(PATIENCE, AssertionError("it does not start")):
            while not (self.lines and "stop with Ctrl-C" in self.lines[-1]):
                line = self.process.stdout.readline()
                assert line, self.process.stderr.read()
                self.lines.append(line.strip())

    def address(self, name: str) -> str:
        (found,) = (line.partition(": ")[2] for line in self.lines if line.startswith(f"{name}: "))
        return found

    def end(self, number: int) -> tuple[int, str, str]:
        """Exit status and what it wrote since."""
        self.process.send_signal(number)
        stdout, stderr = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, stdout, stderr


@contextmanager
def serving(*options: str) -> Iterator[Served]:
    served = Served("--namesrv-port", "0", *options)
    try:
        yield served
    finally:
        if served.process.poll() is None:
            served.end(signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_and_stops(number: int) -> None:
    with serving("--brokers", "2") as served:
        assert "not for production" in served.lines[0]
        with Producer("p", namesrv=served.address("name server")) as producer:
            sent = {producer.send(Message("T", b"x")).message_queue.broker_name for _ in range(16)}
            assert sent == {"broker-a", "broker-b"}
            began = time.monotonic()
            status, stdout, stderr = served.end(number)
        assert time.monotonic() - began < STOPPED_WITHIN
        assert (status, stdout) == (0, "stopped\n")
        assert "Traceback" not in stderr


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            [sys.executable, "-m", "grocketmq.cli", "serve", "--namesrv-port", str(taken.getsockname()[1])],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert done.returncode == 1
    assert "cannot listen on 127.0.0.1:" in done.stderr
    assert "Address already in use; stop what uses it, or give another --namesrv-port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_terminal_shows_counts() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "grocketmq.cli", "serve", "--namesrv-port", "0"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    seen = b""
    os.set_blocking(ours, False)

    def shown(pattern: bytes) -> bool:
        nonlocal seen
        try:
            seen += os.read(ours, 65536)
        except BlockingIOError:
            pass
        return re.search(pattern, seen) is not None

    try:
        wait_for(lambda: shown(rb"0 messages, 0/s; 0 topics, 0 groups, 0 connections"), PATIENCE)
        address = re.search(rb"name server: (\S+)", seen)
        assert address
        with Producer("p", namesrv=address[1].decode()) as producer:
            for _ in range(10):
                producer.send(Message("T", b"x"))
            wait_for(lambda: shown(rb"10 messages, \d+/s; 1 topics, 0 groups, \d connections"), PATIENCE)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """Several times over: senders at work, the program killed in the midst; then all that they know to be stored is there."""
    stored: dict[MessageQueue, dict[int, bytes]] = {}
    committed: dict[MessageQueue, int] = {}
    chance = random.Random(9)
    for life in range(3):
        with (
            serving("--data", str(tmp_path)) as served,
            Producer("p", namesrv=served.address("name server"), retries=0) as producer,
        ):
            check(served.address("name server"), stored, committed)
            senders = [gevent.spawn(send_all, producer, f"{life}-{number}", stored) for number in range(8)]
            enough = 300 * (life + 1)
            wait_for(lambda enough=enough: sum(map(len, stored.values())) >= enough, PATIENCE)
            gevent.sleep(chance.uniform(0, 0.05))
            served.end(signal.SIGKILL)
            gevent.joinall(senders, timeout=PATIENCE)
    with serving("--data", str(tmp_path)) as served:
        check(served.address("name server"), stored, committed)
        assert served.end(signal.SIGINT)[0] == 0


def send_all(producer: Producer, name: str, stored: dict[MessageQueue, dict[int, bytes]]) -> None:
    """Send until the program is gone."""
    for number in range(1_000_000):
        body = f"{name}-{number}".encode()
        try:
            result = producer.send(Message("T", body), timeout=5.0)
        except GRocketMQError:
            return
        stored.setdefault(result.message_queue, {})[result.queue_offset] = body


def check(namesrv: str, stored: dict[MessageQueue, dict[int, bytes]], committed: dict[MessageQueue, int]) -> None:
    """All messages are where they were said to be, and the offsets too; then new offsets are stored."""
    with PullConsumer("g", namesrv=namesrv) as consumer:
        for queue, expected in stored.items():
            found: dict[int, bytes] = {}
            offset = consumer.min_offset(queue)
            while offset < consumer.max_offset(queue):
                result = consumer.pull(queue, "*", offset)
                found.update((message.queue_offset, message.body) for message in result.messages)
                offset = result.next_begin_offset
            assert expected.items() <= found.items()
            if queue in committed:
                assert consumer.fetch_offset(queue) == committed[queue]
            consumer.update_offset(queue, len(expected))
            committed[queue] = len(expected)
