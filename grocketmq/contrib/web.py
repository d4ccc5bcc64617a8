"""The producer of a web application, whatever serves it: what the adapters to frameworks share."""

from __future__ import annotations

from typing import Any

from gevent._hub_local import get_hub_if_exists
from gevent.monkey import is_module_patched

from grocketmq import Producer, ThreadBridge
from grocketmq.runtime.threads import allocate_lock

__all__ = ["WebProducer"]


class WebProducer:
    """Starts a producer when it is first asked for it, in each process.

    In a monkey-patched process, and in a thread that runs gevent, it uses that event loop; otherwise (a development server,
    threaded workers) it lives in a :class:`~grocketmq.runtime.bridge.ThreadBridge`.

    :param group: the producer's group.
    :param options: the producer's options.
    """

    def __init__(self, group: str, options: dict[str, Any]) -> None:
        self._producer = Producer(group, **options)
        self._turn = allocate_lock()
        self._asked = False

    def get(self) -> Producer:
        """The producer, started; blocks the first caller while it starts."""
        if not self._asked:
            if is_module_patched("threading") or get_hub_if_exists() is not None:
                self._producer.start()
            else:
                with self._turn:
                    if not self._asked:
                        ThreadBridge(self._producer).start()
            self._asked = True
        return self._producer
