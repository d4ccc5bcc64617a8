"""A forked child gets a clear error, and leaves the parent's links alone."""

from __future__ import annotations

import pytest

from tests.programs import run_program

pytest.importorskip("wsproto", reason="needs the extra kapokmq")

PROGRAM = """
import os, sys
import gevent
from grocketmq import ForkError
from grocketmq.kapokmq import Consumer, Producer
from tests.kapokmq.server import StandIn

with StandIn() as server:
    with Producer(*server.address, "t", "p", "test") as producer, Consumer(*server.address, "t", "c", "test") as consumer:
        child = gevent.os.fork()
        if child == 0:
            status = 1
            try:
                for call in (lambda: producer.send("child"), lambda: consumer.receive(1), producer.start):
                    try:
                        call()
                    except ForkError as error:
                        assert "after the fork" in str(error)
                    else:
                        raise AssertionError("no ForkError")
                gevent.sleep(0.3)
                producer.close()
                consumer.close()
                status = 0
            finally:
                os._exit(status)
        _, status = gevent.os.waitpid(child, 0)
        assert status == 0
        assert producer.connected and consumer.connected
        producer.send("parent")
        consumer.receive(5).ack()
        assert server.taken == ["parent"]
        assert len(server.logins) == 2
print("good")
"""


def test_a_forked_child_gets_a_clear_error() -> None:
    done = run_program("-c", PROGRAM)
    assert (done.stdout, done.stderr, done.status) == ("good\n", "", 0)
