"""A program that forks while it sends; what both processes saw goes to stdout as JSON.

Usage: python -m tests.citizen.forking os|multiprocessing|subprocess|unused
"""

from __future__ import annotations

import gc
import json
import logging
import multiprocessing
import os
import subprocess
import sys
from typing import Any

import gevent

from grocketmq import ConfigError, ForkError, Message, Producer, PushConsumer
from tests.citizen.stored import sent

TOPIC = "forks"
SENDERS, SENDS = 8, 10


class Unlucky(PushConsumer):
    """Its first start in a forked child fails, as without an address server."""

    failed_in = os.getpid()

    def _start(self) -> None:
        if self.failed_in != os.getpid():
            self.failed_in = os.getpid()
            raise ConfigError("on purpose")
        super()._start()


def send_all(producer: Producer, who: str) -> list[dict[str, Any]]:
    def sender(number: int) -> list[dict[str, Any]]:
        bodies = [f"{who} {number}-{turn}" for turn in range(SENDS)]
        return [sent(body, producer.send(Message(TOPIC, body), timeout=10)) for body in bodies]

    jobs = [gevent.spawn(sender, number) for number in range(SENDERS)]
    return [one for job in gevent.joinall(jobs, timeout=30, raise_error=True) for one in job.value]


def sockets() -> set[str]:
    links = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.add(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
    return {link for link in links if link.startswith("socket:")}


def greenlets() -> list[str]:
    """The library's own, by name."""
    return sorted(one.name for one in gc.get_objects() if isinstance(one, gevent.Greenlet) and one and ":" in one.name)


def copies(client_id: str) -> list[str]:
    """What lives on of the parent's greenlets when they had the time to end."""
    left = None
    with gevent.Timeout(5, False):
        while left := [name for name in greenlets() if name.startswith(client_id + ":") or "Consumer forks:" in name]:
            gevent.sleep(0.01)
    return left or []


def forked(run: Any) -> dict[str, Any]:
    """Run in a forked child; other greenlets of this process go on meanwhile."""
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        status = 1
        try:
            os.write(writing, json.dumps(run()).encode())
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    told = b""
    while part := gevent.os.tp_read(reading, 65536):
        told += part
    os.close(reading)
    assert os.waitpid(pid, 0)[1] == 0
    found: dict[str, Any] = json.loads(told)
    return found


def in_process(run: Any) -> dict[str, Any]:
    """The same with ``multiprocessing``."""
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sending.send(run()))
    process.start()
    while not receiving.poll():
        gevent.sleep(0.01)
    told: dict[str, Any] = receiving.recv()
    while process.exitcode is None:
        gevent.sleep(0.01)
    assert process.exitcode == 0
    return told


def through_programs(run: Any) -> dict[str, Any]:
    """``subprocess`` forks too; the children only run another program."""
    for _ in range(10):
        assert subprocess.run(["true"], check=True).returncode == 0
        gevent.sleep(0.01)
    return {}


def main(how: str) -> None:
    logging.getLogger("grocketmq").propagate = False  # of what fails on purpose
    fork = {"os": forked, "unused": forked, "multiprocessing": in_process, "subprocess": through_programs}[how]
    got: list[str] = []
    named = "one-name" if how == "os" else None
    producer = Producer("forks", client_id=named)
    consumer = PushConsumer("forks", client_id=named)
    consumer.subscribe(TOPIC)
    consumer.register_listener(lambda msgs: got.extend(msg.body.decode() for msg in msgs))
    others = Unlucky("forks-too", restart_after_fork=True)
    others.subscribe(TOPIC)
    others.register_listener(lambda msgs: None)
    if how != "unused":
        producer.start()
        producer.send(Message(TOPIC, "first"))
        consumer.start()
        others.start()
    mine = (sockets(), producer.client_id, others.client_id)

    def child() -> dict[str, Any]:
        told: dict[str, Any] = {"inherited": sorted(sockets() & mine[0]) if how == "os" else []}
        if how == "unused":
            producer.start()
        else:
            gevent.sleep(0.05)
            told["copies"] = copies(str(mine[1]))
            for call in (consumer.queues, consumer.start, consumer.suspend):
                try:
                    call()
                except ForkError as error:
                    told["refused"] = str(error)
                else:
                    told["refused"] = ""
            consumer.shutdown()
            with gevent.Timeout(10, False):
                while others.client_id in (None, mine[2]):
                    gevent.sleep(0.01)
            told["restarted"] = others.client_id
        told["sends"] = send_all(producer, "child")
        told["client_id"] = producer.client_id
        told["consumed"] = len(got)
        producer.shutdown()
        others.shutdown()
        return told

    if how == "unused":
        told = fork(child)
        producer.start()
        sends = gevent.spawn(send_all, producer, "parent")
    else:
        sends = gevent.spawn(send_all, producer, "parent")
        gevent.sleep(0)
        before = len(got)
        told = fork(child)
        told["consumed"] = told.get("consumed", before) - before
    mine_sends = sends.get(timeout=30) + send_all(producer, "parent again")
    with gevent.Timeout(20, False):
        wanted = {one["body"] for one in [*mine_sends, *told.get("sends", ())]}
        while how != "unused" and not wanted <= set(got):
            gevent.sleep(0.01)
    print(json.dumps({"parent": mine_sends, "child": told, "client_id": producer.client_id, "got": sorted(set(got))}))
    for client in (others, consumer, producer):
        client.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
