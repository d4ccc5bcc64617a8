"""Faults on request: what a test tells the cluster to do with the n-th request of a kind.

An action is told of a request and may answer it, close its connection, or have it served later; what it does not do does not
happen.  Ready-made actions are below, from :func:`answer` to :func:`reset`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from grocketmq.codes import ResponseCode
from grocketmq.errors import ConfigError
from grocketmq.remoting.server import Channel, RemotingServer
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire.command import RemotingCommand

__all__ = [
    "Action",
    "Control",
    "Fault",
    "Intercepted",
    "answer",
    "close",
    "corrupt",
    "delay",
    "drop",
    "fail",
    "half_close",
    "reset",
]


class Intercepted:
    """A request that a fault took.

    :param request: the request.
    :param channel: the client's connection.
    """

    def __init__(self, request: RemotingCommand, channel: Channel, server: RemotingServer, tasks: TaskGroup) -> None:
        self.request = request
        self.channel = channel
        self._server = server
        self._tasks = tasks

    def serve(self) -> None:
        """Have it served as if there were no fault."""
        self._server.serve(self.request, self.channel)

    def later(self, seconds: float, run: Callable[[], object]) -> None:
        """Run a function after a pause; the connection's other requests go on meanwhile.  Never blocks.

        :param seconds: the pause.
        """
        self._tasks.spawn_later(seconds, f"delayed request {self.request.code}", run)


#: What to do with a request; runs in the reader of its connection.
Action = Callable[[Intercepted], object]


def answer(
    code: int, remark: str | None = None, ext_fields: Mapping[str, str | None] | None = None, body: bytes | None = None
) -> Action:
    """Answer the request with this, instead of serving it.

    :param code: the response code.
    :param remark: the answer's remark.
    :param ext_fields: its fields.
    :param body: its body.
    """

    def act(taken: Intercepted) -> None:
        fields = None if ext_fields is None else dict(ext_fields)
        taken.channel.reply(RemotingCommand.response_to(taken.request, code, remark, fields, body))

    return act


def fail(remark: str = "a fault that the test asked for") -> Action:
    """Answer with code 1, as a broker does that failed inside."""
    return answer(ResponseCode.SYSTEM_ERROR, remark)


def delay(seconds: float) -> Action:
    """Serve the request after a pause; the connection's other requests go on meanwhile.

    :param seconds: the pause.
    """
    return lambda taken: taken.later(seconds, taken.serve)


def drop(taken: Intercepted) -> None:
    """Do nothing: the request seems lost."""


def close(taken: Intercepted) -> None:
    """Close the connection instead of serving the request."""
    taken.channel.close()


def reset(taken: Intercepted) -> None:
    """Reset the connection instead of serving the request: the client sees an error, not an end."""
    taken.channel.reset()


def half_close(taken: Intercepted) -> None:
    """Serve the request, but send the end of the stream instead of the answer; what the client sends is still read."""
    taken.channel.alter_answer(taken.request.opaque, lambda data: b"")
    taken.channel.half_close()
    taken.serve()


def corrupt(change: Callable[[bytes], bytes] | None = None) -> Action:
    """Serve the request, but spoil its answer on the way.

    :param change: makes other bytes of the answer's whole frame; None has its header be no header.
    """

    def act(taken: Intercepted) -> None:
        taken.channel.alter_answer(taken.request.opaque, change or _without_header)
        taken.serve()

    return act


def _without_header(data: bytes) -> bytes:
    """The frame with a header that cannot be read."""
    return data[:8] + bytes(byte ^ 0xFF for byte in data[8:40]) + data[40:]


@dataclass(eq=False)
class Fault:
    """One thing a test asked for.

    :param code: the requests' code, None for all requests.
    :param action: what to do with them.
    :param nth: the first request it takes, counted from 1.
    :param times: how many it takes; None for all further ones.
    :param at: the server's name: ``namesrv`` or a broker's; None for all.
    :param matches: a further condition; requests that do not meet it are not counted.
    """

    code: int | None
    action: Action
    nth: int = 1
    times: int | None = 1
    at: str | None = None
    matches: Callable[[RemotingCommand], bool] = field(default=lambda request: True)
    #: Requests of its kind so far.
    seen: int = 0
    #: Requests it took so far.
    taken: int = 0

    def takes(self, request: RemotingCommand, at: str) -> bool:
        """Count a request and say whether it is to be taken."""
        if self.code not in (None, request.code) or self.at not in (None, at) or not self.matches(request):
            return False
        self.seen += 1
        if self.seen < self.nth or (self.times is not None and self.taken >= self.times):
            return False
        self.taken += 1
        return True


class Control:
    """The faults of a cluster; while there is none, requests do not pass here."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._servers: dict[str, tuple[RemotingServer, TaskGroup]] = {}

    def attach(self, at: str, server: RemotingServer, tasks: TaskGroup) -> None:
        """Watch over a server."""
        self._servers[at] = (server, tasks)
        self._hook()

    def add(self, fault: Fault) -> Fault:
        """Ask for something; never blocks."""
        self.faults.append(fault)
        self._hook()
        return fault

    def remove(self, fault: Fault) -> None:
        """Take it back; never blocks."""
        if fault in self.faults:
            self.faults.remove(fault)
            self._hook()

    def clear(self) -> None:
        """Take everything back; never blocks."""
        self.faults.clear()
        self._hook()

    def servers(self, at: str | None) -> list[RemotingServer]:
        """The server of a name, or all.

        :param at: ``namesrv`` or a broker's name; None for all.
        """
        if at is not None and at not in self._servers:
            raise ConfigError(f"there is no server {at!r}; there are: {', '.join(self._servers)}")
        return [server for name, (server, _) in self._servers.items() if at in (None, name)]

    def _hook(self) -> None:
        for at, (server, tasks) in self._servers.items():
            server.intercept = self._intercepting(at, server, tasks) if self.faults else None

    def _intercepting(self, at: str, server: RemotingServer, tasks: TaskGroup) -> Callable[[RemotingCommand, Channel], bool]:
        def intercept(request: RemotingCommand, channel: Channel) -> bool:
            for fault in self.faults:
                if fault.takes(request, at):
                    fault.action(Intercepted(request, channel, server, tasks))
                    return True
            return False

        return intercept
