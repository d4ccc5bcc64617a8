"""Calls to any peer by its address: one connection an address, made when it is needed."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Protocol, runtime_checkable

import gevent
from gevent.event import AsyncResult

from grocketmq.codes import ResponseCode, SerializeType
from grocketmq.errors import ClientStateError, ConnectError, ForkError, GoAwayError, GRocketMQError, TLSError
from grocketmq.remoting.connection import Connection, ConnectionState
from grocketmq.remoting.stream import ByteStream, connect
from grocketmq.runtime.deadline import Backoff, Deadline
from grocketmq.runtime.forks import drop_in_child
from grocketmq.runtime.tasks import FAILURES, TaskGroup
from grocketmq.runtime.threads import get_ident
from grocketmq.runtime.turns import SharedTurn, in_small_turns
from grocketmq.wire.acl import Credentials, signed_fields
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.flags import RpcFlag
from grocketmq.wire.framing import MAX_FRAME_BYTES, encode_command

__all__ = ["Processor", "RPCHook", "RemotingClient"]

log = logging.getLogger(__name__)

#: ``(request, address of the peer) -> answer``, None for no answer.  Runs in a greenlet of its own and may block.
Processor = Callable[[RemotingCommand, str], RemotingCommand | None]

#: Reading a member of an enumeration costs five times a global, and these are asked for every call.
_OPEN = ConnectionState.OPEN
_GO_AWAY = ResponseCode.GO_AWAY

_MAX_OPAQUE = (1 << 31) - 1
#: Seconds an answer to a peer's request may wait for room on the connection.
_ANSWER_TIMEOUT = 3.0


@runtime_checkable
class RPCHook(Protocol):
    """Looks at every request and every answer; an ``Exception`` from it is logged and changes nothing.

    Any hook, with these methods or without, may have ``after_connect(address, seconds, error)``, told how long each connection
    took to be made, name resolution and TLS included, and why it could not be (else None); in the connection's greenlet.
    """

    def before_request(self, address: str, request: RemotingCommand) -> None:
        """Before a request is encoded; may add to its ``ext_fields``."""

    def after_response(self, address: str, request: RemotingCommand, response: RemotingCommand | None) -> None:
        """After its answer came; None for a oneway request."""


class Translator(Protocol):
    """Changes commands between what callers mean and what peers understand; must neither block nor raise."""

    def outgoing(self, request: RemotingCommand) -> None:
        """A request, after the hooks saw it and before it is signed."""

    def incoming(self, code: int, command: RemotingCommand) -> None:
        """An answer to a request with this code, or a request of a peer; before the hooks see it."""

    def answered(self, answer: RemotingCommand) -> None:
        """What is answered to a peer."""


class _Peer:
    """What is known of one address: its connection, and how the last tries to connect went."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.backoff = Backoff(first=0.05, cap=2.0)
        self.not_before = 0.0
        self.failure: GRocketMQError | None = None


class RemotingClient:
    """Calls to brokers and name servers.

    :param tasks: owns all greenlets of its connections.
    :param connect_timeout: seconds for a connection to be made, name resolution and TLS included.
    :param open_stream: ``(address, timeout) -> stream``, from :func:`~grocketmq.remoting.tls.tls_connector`; None for no TLS.
    :param max_frame_bytes: the longest frame to accept.
    :param serialize_type: the header encoding of requests.
    :param hooks: see :class:`RPCHook`; called in order.  Those that look at other things are left out.
    :param credentials: sign every request; None for clusters without access control.
    :param translator: see :class:`Translator`; None for none.
    """

    def __init__(
        self,
        tasks: TaskGroup,
        *,
        connect_timeout: float = 3.0,
        open_stream: Callable[[str, float], ByteStream] | None = None,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        serialize_type: SerializeType = SerializeType.JSON,
        hooks: Iterable[object] = (),
        credentials: Credentials | None = None,
        translator: Translator | None = None,
    ) -> None:
        self._tasks = tasks
        self._connect_timeout = connect_timeout
        self._open_stream = open_stream or connect
        self._max_frame_bytes = max_frame_bytes
        self._reading = SharedTurn()
        self._serialize_type = serialize_type
        hooks = tuple(hooks)
        self._hooks = tuple(hook for hook in hooks if isinstance(hook, RPCHook))
        self._connect_hooks = tuple(hook.after_connect for hook in hooks if hasattr(hook, "after_connect"))
        #: Whether anybody wants to see answers.
        self._looked_at = bool(self._hooks) or translator is not None
        self._credentials = credentials
        self._translator = translator
        self._peers: dict[str, _Peer] = {}
        self._retired: set[Connection] = set()
        self._processors: dict[int, Processor] = {}
        self._next_opaque = itertools.count(1).__next__
        self._closed = False
        self._forked = False
        self._thread = get_ident()
        drop_in_child(self)

    def register_processor(self, code: int, processor: Processor) -> None:
        """Serve a request that peers send; never blocks.

        :param code: the request code.
        :param processor: see :data:`Processor`.
        """
        self._processors[code] = processor

    def invoke(self, address: str, request: RemotingCommand, timeout: float) -> RemotingCommand:
        """Send a request and wait for its answer; blocks at most ``timeout`` seconds, connecting included.

        :param address: ``host:port`` of the peer.
        :param request: its opaque is set here.
        :param timeout: seconds.
        :returns: the answer, whatever its code.
        :raises RemotingError: when there is none; its subclasses say why.
        :raises GoAwayError: when the peer sent the request away twice.
        """
        return self.call(address, request, Deadline(timeout))

    def call(self, address: str, request: RemotingCommand, deadline: Deadline) -> RemotingCommand:
        """As :meth:`invoke`, until a deadline."""
        connection = self._connection(address, deadline)
        frame = self._encode(address, request)
        answer = connection.finish(connection.begin(request.opaque, frame, deadline))
        if self._looked_at:
            self._after(address, request, answer)
        if answer.code == _GO_AWAY:
            self._retire(connection)
            connection = self._connection(address, deadline)
            frame = self._encode(address, request)
            answer = connection.finish(connection.begin(request.opaque, frame, deadline))
            self._after(address, request, answer)
            if answer.code == _GO_AWAY:
                raise GoAwayError(answer.code, answer.remark, address)
        return answer

    def invoke_async(self, address: str, request: RemotingCommand, timeout: float) -> AsyncResult:
        """As :meth:`invoke`, without waiting; never blocks.

        :returns: an ``AsyncResult`` that gets the answer or the error.
        """
        result = AsyncResult()

        def run() -> None:
            try:
                result.set(self.invoke(address, request, timeout))
            except Exception as error:
                result.set_exception(error)

        def ended(_: gevent.Greenlet) -> None:
            if not result.ready():  # it was killed, perhaps before it ran
                result.set_exception(ClientStateError(f"the call to {address} was cut off at shutdown"))

        self._tasks.spawn(f"call {request.code} to {address}", run).rawlink(ended)
        return result

    def invoke_later(
        self, address: str, request: RemotingCommand, timeout: float
    ) -> tuple[Callable[[], RemotingCommand], Callable[[], None]]:
        """Queue a request now, in its order among those of this greenlet, and wait for its answer later.

        Blocks for a connection and for room, at most ``timeout`` seconds.

        :returns: two functions, of which one is to be called once, in any greenlet: the first waits for the answer and
            returns it, or raises as :meth:`invoke`; the second gives it up and never blocks.
        :raises RemotingError: when it could not be queued.
        """
        deadline = Deadline(timeout)
        connection = self._connection(address, deadline)
        frame = self._encode(address, request)
        call = connection.begin(request.opaque, frame, deadline)

        def answer() -> RemotingCommand:
            found = connection.finish(call)
            self._after(address, request, found)
            return found

        return answer, lambda: connection.forget(call)

    def invoke_oneway(self, address: str, request: RemotingCommand, timeout: float) -> None:
        """Send a request that gets no answer; blocks until it is queued for sending, at most ``timeout`` seconds.

        :raises RemotingError: when there is no connection, or no room to queue it.
        """
        self.post(address, request, Deadline(timeout))

    def post(self, address: str, request: RemotingCommand, deadline: Deadline) -> None:
        """As :meth:`invoke_oneway`, until a deadline."""
        connection = self._connection(address, deadline)
        request.flag |= RpcFlag.ONEWAY
        connection.post(self._encode(address, request), deadline)
        if self._hooks:
            self._after(address, request, None)

    def connection(self, address: str) -> object | None:
        """What stands for the present connection to a peer, another object for the next one; None without one."""
        peer = self._peers.get(address)
        return None if peer is None else peer.connection

    def addresses(self) -> list[str]:
        """The peers with an open connection."""
        return [address for address, peer in self._peers.items() if _is_open(peer.connection)]

    def report(self) -> dict[str, dict[str, Any]]:
        """The connections by address: state, calls in flight, whether all is sent."""
        return {
            address: {"state": one.state.value, "in_flight": one.in_flight, "flushed": one.flushed()}
            for address, peer in self._peers.items()
            if (one := peer.connection) is not None
        }

    def in_flight(self) -> int:
        """Calls that wait for an answer, over all peers."""
        return sum(peer.connection.in_flight for peer in self._peers.values() if peer.connection is not None)

    def forget(self, address: str) -> None:
        """Close the connection to a peer that is not wanted any more; never blocks."""
        peer = self._peers.pop(address, None)
        if peer is not None and peer.connection is not None:
            peer.connection.close()

    def close(self, timeout: float) -> None:
        """Close every connection; blocks at most ``timeout`` seconds for what still waits to be sent."""
        self._closed = True
        connections = [*self._retired, *(peer.connection for peer in self._peers.values() if peer.connection is not None)]
        deadline = Deadline(timeout)
        try:
            while not deadline.expired and any(_is_open(one) and not one.flushed() for one in connections):
                gevent.sleep(0.001)
            for connection in in_small_turns(connections):
                connection.close()
        finally:
            for connection in connections:  # when that was broken off
                connection.close()

    def abandon(self) -> None:
        """In a forked child: drop every connection without touching what the parent has of it, and make no other."""
        self._closed = self._forked = True
        for connection in [*self._retired, *(peer.connection for peer in self._peers.values())]:
            if connection is not None:
                connection.abandon()

    def _connection(self, address: str, deadline: Deadline) -> Connection:
        """The open connection to a peer, made if there is none; fails at once while the last failure is too fresh."""
        if self._closed:
            if self._forked:
                raise ForkError(f"calls to {address} are the parent process's; this is its forked child")
            raise ClientStateError("the client is shut down")
        peer = self._peers.get(address)
        if peer is None:
            peer = self._peers[address] = _Peer()
        connection = peer.connection
        if connection is not None and connection.state is _OPEN:
            return connection
        if connection is None or connection.state is ConnectionState.CLOSED:
            pause = peer.not_before - monotonic()
            if pause > 0:
                kind = TLSError if isinstance(peer.failure, TLSError) else ConnectError
                raise kind(f"{peer.failure} (the next try may be in {pause:.2f} s)") from peer.failure
            connection = peer.connection = self._new_connection(address)
        connection.wait_open(deadline)
        return connection

    def _new_connection(self, address: str) -> Connection:
        if get_ident() != self._thread:
            raise ClientStateError("the client belongs to another thread's event loop; use it in its own thread")

        return Connection(
            address,
            partial(self._connect, address),
            self._tasks,
            self._serve_request,
            self._on_closed,
            self._max_frame_bytes,
            self._reading,
        )

    def _connect(self, address: str) -> ByteStream:
        began = monotonic()
        try:
            stream = self._open_stream(address, self._connect_timeout)
        except GRocketMQError as error:
            self._connected(address, monotonic() - began, error)
            raise
        try:
            self._connected(address, monotonic() - began)
        except BaseException:  # killed in a hook that waits
            stream.close()
            raise
        return stream

    def _connected(self, address: str, seconds: float, error: GRocketMQError | None = None) -> None:
        for told in self._connect_hooks:
            try:
                told(address, seconds, error)
            except FAILURES:
                log.exception("hook %r failed after connecting to %s", told, address)

    def _on_closed(self, connection: Connection) -> None:
        self._retired.discard(connection)
        peer = self._peers.get(connection.address)
        if peer is not None and peer.connection is connection:
            peer.connection = None
            if connection.heard:
                peer.backoff.reset()
            else:  # it refused, or accepted and hung up
                peer.failure = connection.cause
                peer.not_before = monotonic() + peer.backoff.next()
        log.info("%s", connection.cause)

    def _retire(self, connection: Connection) -> None:
        peer = self._peers.get(connection.address)
        if peer is not None and peer.connection is connection:
            peer.connection = None
            self._retired.add(connection)
            connection.retire()

    def _encode(self, address: str, request: RemotingCommand) -> bytes:
        request.opaque = self._next_opaque() & _MAX_OPAQUE
        if self._hooks:
            self._before(address, request)
        if self._translator is not None:
            self._translator.outgoing(request)
        if self._credentials is not None:
            request.ext_fields = signed_fields(request.ext_fields, request.body, self._credentials)
        return encode_command(request, self._serialize_type)

    def _before(self, address: str, request: RemotingCommand) -> None:
        for hook in self._hooks:
            try:
                hook.before_request(address, request)
            except Exception:
                log.exception("hook %r failed before request %d to %s", hook, request.code, address)

    def _after(self, address: str, request: RemotingCommand, response: RemotingCommand | None) -> None:
        if self._translator is not None and response is not None:
            self._translator.incoming(request.code, response)
        for hook in self._hooks:
            try:
                hook.after_response(address, request, response)
            except Exception:
                log.exception("hook %r failed after request %d to %s", hook, request.code, address)

    def _serve_request(self, connection: Connection, request: RemotingCommand) -> None:
        if self._translator is not None:
            self._translator.incoming(request.code, request)
        processor = self._processors.get(request.code)
        answer: RemotingCommand | None
        if processor is None:
            answer = RemotingCommand.response_to(
                request, ResponseCode.REQUEST_CODE_NOT_SUPPORTED, f"this client does not serve request code {request.code}"
            )
        else:
            try:
                answer = processor(request, connection.address)
            except Exception as error:
                log.exception("serving request %d from %s failed", request.code, connection.address)
                answer = RemotingCommand.response_to(request, ResponseCode.SYSTEM_ERROR, repr(error))
        if answer is not None and not request.is_oneway:
            if self._translator is not None:
                self._translator.answered(answer)
            frame = encode_command(answer, self._serialize_type)
            with suppress(GRocketMQError):  # the peer has left; there is nobody to tell
                connection.post(frame, Deadline(_ANSWER_TIMEOUT))


def _is_open(connection: Connection | None) -> bool:
    return connection is not None and connection.state is _OPEN
