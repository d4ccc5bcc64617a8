"""Stacks of threads and greenlets as text."""

from __future__ import annotations

import gevent
from gevent.event import Event

from grocketmq.runtime.stacks import stacks
from grocketmq.runtime.tasks import TaskGroup


class Touchy:
    """Nobody is to look at it."""

    def __repr__(self) -> str:
        raise RuntimeError("the values of variables are nobody's business")


def test_greenlets_with_one_stack_stand_together_and_no_values_are_told() -> None:
    tasks, release = TaskGroup("owner"), Event()

    def wait(secret: object) -> None:
        release.wait()

    for number in range(20):
        tasks.spawn(f"waits {number:02d}", wait, Touchy())
    gevent.sleep(0)
    parts = stacks().split("\n\n")
    assert any(part.startswith("thread ") and f"{__name__}.test_greenlets_with_one_stack" in part for part in parts)
    [ours] = [part for part in parts if "owner:waits" in part]
    assert ours.count("owner:waits") == 8
    assert "and 12 more\n" in ours
    assert f"{__name__}.wait, line" in ours
    tasks.kill()
