"""Where all threads and greenlets of the process are, for operators."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from types import FrameType

from greenlet import greenlet

from grocketmq.runtime.turns import in_turns

__all__ = ["stacks"]

#: Names that are told of greenlets with one and the same stack.
_NAMES = 8


def stacks() -> str:
    """The stacks as text, those of threads first; greenlets with equal stacks stand together.  Lets
    other greenlets run when there are many.

    Names and line numbers only.  gevent's own ``format_run_info`` shows arguments and greenlet-local values too:
    secrets may be among them, and their ``repr`` may do anything.
    """
    told = [f"thread {ident:#x}\n{_text(frame)}" for ident, frame in sys._current_frames().items()]
    alike: dict[str, list[str]] = {}
    for one, frame in _greenlets():
        alike.setdefault(_text(frame), []).append(f"{type(one).__name__} {getattr(one, 'name', '')} at {id(one):#x}")
    return "\n\n".join([*told, *(f"{_heading(names)}\n{text}" for text, names in alike.items())])


def _greenlets() -> Iterator[tuple[greenlet, FrameType]]:
    for one in in_turns(gc.get_objects()):
        # Not isinstance, which asks a proxy for what it stands for.
        if issubclass(type(one), greenlet) and (frame := one.gr_frame) is not None:
            yield one, frame


def _heading(names: list[str]) -> str:
    more = [f"and {len(names) - _NAMES} more"] if len(names) > _NAMES else []
    return "\n".join([*names[:_NAMES], *more])


def _text(frame: FrameType | None) -> str:
    """The functions and lines; not their source, which would have to be read from files."""
    lines = []
    while frame is not None:
        lines.append(f"    {frame.f_globals.get('__name__')}.{frame.f_code.co_name}, line {frame.f_lineno}")
        frame = frame.f_back
    return "\n".join(lines)
