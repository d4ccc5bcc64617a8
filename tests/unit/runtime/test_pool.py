"""Work in the hub's thread pool."""

from __future__ import annotations

import gevent
import pytest

from grocketmq.runtime.pool import in_pool
from grocketmq.runtime.threads import get_ident


def test_it_runs_in_another_thread_and_the_event_loop_goes_on() -> None:
    turns = gevent.spawn(gevent.sleep, 0)
    assert in_pool(get_ident) != get_ident()
    assert in_pool(int, "12", base=8) == 10
    assert turns.ready()


def test_an_error_is_raised_and_printed_by_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        in_pool(int, "no number")
    gevent.sleep(0)
    assert capfd.readouterr() == ("", "")
