"""JSON bodies: a :class:`~grocketmq.wire.bodies.schema.Body` with ``decode`` and ``encode`` for each kind, and its classes."""

from __future__ import annotations

from grocketmq.wire.bodies.connections import *  # noqa: F403
from grocketmq.wire.bodies.consumer import *  # noqa: F403
from grocketmq.wire.bodies.heartbeat import *  # noqa: F403
from grocketmq.wire.bodies.offsets import *  # noqa: F403
from grocketmq.wire.bodies.pop import *  # noqa: F403
from grocketmq.wire.bodies.route import *  # noqa: F403
from grocketmq.wire.bodies.schema import Body
