"""The fields of requests and answers, one class for each kind, named as in Java.

:meth:`~grocketmq.wire.headers.base.CommandHeader.to_ext` makes what a frame carries,
:meth:`~grocketmq.wire.headers.base.CommandHeader.parse` reads it and insists on required fields,
:meth:`~grocketmq.wire.headers.base.CommandHeader.from_ext` reads it as leniently as Java.
"""

from __future__ import annotations

from grocketmq.wire.headers.base import CommandHeader, RpcRequestHeader, TopicRequestHeader
from grocketmq.wire.headers.group import *  # noqa: F403
from grocketmq.wire.headers.pop import *  # noqa: F403
from grocketmq.wire.headers.pull import *  # noqa: F403
from grocketmq.wire.headers.send import *  # noqa: F403
from grocketmq.wire.headers.topic import *  # noqa: F403
