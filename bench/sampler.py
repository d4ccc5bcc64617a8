"""Where a process spends its processor time: looks at the running greenlet's stack at every millisecond of it."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from types import FrameType

__all__ = ["Sampler"]

INTERVAL = 0.001
#: From Python 3.11 on.
QUALIFIED = "co_qualname"


class Sampler:
    """Samples within a ``with`` block and then writes the functions that came up most to standard error.

    :param title: the heading.
    :param top: lines to write.
    """

    def __init__(self, title: str, top: int = 40) -> None:
        self._title = title
        self._top = top
        self._own: Counter[str] = Counter()
        self._total: Counter[str] = Counter()

    def __enter__(self) -> Sampler:
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        samples = max(sum(self._own.values()), 1)
        print(f"\n{self._title}: {samples} samples\n   own  total", file=sys.stderr)
        for name, total in sorted(self._total.items(), key=lambda item: (-self._own[item[0]], -item[1]))[: self._top]:
            print(f"{self._own[name] / samples:6.1%} {total / samples:6.1%}  {name}", file=sys.stderr)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        names = []
        while frame is not None:
            code = frame.f_code
            names.append(f"{getattr(code, QUALIFIED, code.co_name)}  ({_short(code.co_filename)})")
            frame = frame.f_back
        self._own[names[0]] += 1
        self._total.update(set(names))


def _short(path: str) -> str:
    return "/".join(path.rsplit("/", 3)[1:])
