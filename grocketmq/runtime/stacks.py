"""Where all threads and greenlets of the process are, for operators."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Iterator

from greenlet import greenlet

__all__ = ["stacks"]


def stacks() -> str:
    """The stacks as text, those of threads first; never blocks.

    Source lines and names of greenlets only.  gevent's own ``format_run_info`` shows arguments and greenlet-local values too:
    secrets may be among them, and their ``repr`` may do anything.
    """
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    for ident, frame in sys._current_frames().items():
        yield f"thread {ident:#x}"
        yield "".join(traceback.format_stack(frame))
    for one in gc.get_objects():
        # Not isinstance, which asks a proxy for what it stands for.
        if issubclass(type(one), greenlet) and (frame := one.gr_frame) is not None:
            yield f"{type(one).__name__} {getattr(one, 'name', '')} at {id(one):#x}"
            yield "".join(traceback.format_stack(frame))
