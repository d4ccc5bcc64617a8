"""A stand-in for a KapokMQ server and for the Serena registry, with their quirks and with faults on demand.

It follows what was seen of the real server (dpwgc/kapokmq, commit a8c2c0c) byte by byte, its clock aside: ``speed`` lets its
seconds, which everything in it counts in, pass faster.
"""

from __future__ import annotations

import json
import random
import struct
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

import gevent
from gevent import socket
from gevent.event import Event
from gevent.queue import Queue

from tests.kapokmq.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, BadFrame, Frames, accept_token, frame

__all__ = ["Registry", "StandIn"]

PROMPT = b"Please enter the secret key"
LOGGED_IN = b"Secret key matching succeeded"
WRONG_KEY = b"Secret key matching error"
#: What fits beside the longest header into the real server's buffer of 4096 bytes.
BUFFER_BYTES = 4082
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
#: Small, so that a client that does not read is noticed soon.
SEND_BUFFER_BYTES = 64 * 1024


@dataclass
class Stored:
    """A message; its fields in the order of the real server's JSON."""

    MessageCode: str
    MessageData: str
    Topic: str
    CreateTime: int
    ConsumedTime: int
    DelayTime: int
    Status: int

    def json(self) -> bytes:
        text = json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))
        for char in "<>&\u2028\u2029":
            text = text.replace(char, f"\\u{ord(char):04x}")
        return text.encode() + b"\n"


class Rude(Exception):
    """End this connection without a close frame."""


class Peer:
    """The server's end of one connection."""

    def __init__(self, server: HttpServer, sock: Any) -> None:
        self.server = server
        self.sock = sock
        self.frames = Frames(masked=True)
        self.inbox: list[bytes] = []
        self._parts = b""

    def read_head(self) -> tuple[str, str, dict[str, str], bytes]:
        """Method, path, headers and the bytes behind them."""
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = self.sock.recv(65536)
            if not chunk:
                raise Rude
            data += chunk
            if data[0] == 0x16:  # a TLS handshake
                self.answer("400 Bad Request", b"")
                raise Rude
        head, _, rest = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(rest) < int(headers.get("content-length", "0")):
            chunk = self.sock.recv(65536)
            if not chunk:
                raise Rude
            rest += chunk
        return method, path, headers, rest

    def answer(self, status: str, body: bytes, kind: str = "application/json; charset=utf-8", more: str = "") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
        self.sock.sendall(head.encode() + body)

    def send_text(self, text: bytes) -> None:
        self.sock.sendall(frame(TEXT, text))

    def push(self, body: bytes) -> None:
        """As gorilla's ``WriteJSON`` does: over its buffer a first frame without the end mark, then continuations."""
        if len(body) <= BUFFER_BYTES:
            self.sock.sendall(frame(TEXT, body))
            return
        pieces = [body, b""]
        if len(body) <= 2 * 4096:
            pieces = [body[at : at + BUFFER_BYTES] for at in range(0, len(body), BUFFER_BYTES)]
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            self.sock.sendall(frame(CONTINUATION if number else TEXT, piece, fin=last))

    def message(self) -> bytes:
        """The next text or binary message, its frames put together; pings and close frames are answered.

        :raises Rude: the client is gone.
        """
        while not self.inbox:
            data = self.sock.recv(65536)
            if not data:
                raise Rude
            try:
                self._take(data)
            except BadFrame as error:
                self.sock.sendall(frame(CLOSE, struct.pack("!H", 1002) + str(error).encode()))
                raise Rude from None
        return self.inbox.pop(0)

    def _take(self, data: bytes) -> None:
        for one in self.frames.feed(data):
            if one.opcode == PING:
                if not self.server.silent:
                    self.sock.sendall(frame(PONG, one.payload))
            elif one.opcode == CLOSE:
                self.sock.sendall(frame(CLOSE, one.payload[:2]))
                raise Rude
            elif one.opcode in (TEXT, BINARY, CONTINUATION):
                self._parts += one.payload
                if one.fin:
                    self.inbox.append(self._parts)
                    self._parts = b""

    def close(self, reset: bool = False) -> None:
        with suppress(OSError):
            if reset:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.sock.close()


class HttpServer:
    """Listens on a loopback port and keeps it over restarts.

    :param key: the secret key.
    :param tls: a ``gevent.ssl.SSLContext`` for servers, as a TLS proxy in front of the real server has; None for none.
    """

    def __init__(self, key: str = "test", tls: Any = None) -> None:
        self.key = key
        self.tls = tls
        self.address: tuple[str, int] = ("127.0.0.1", 0)
        self.peers: set[Peer] = set()
        #: Connections so far.
        self.connections = 0
        #: Answers no ping any more.
        self.silent = False
        #: Runs instead of everything else with each new peer.
        self.instead: Callable[[Peer], None] | None = None
        self._listener: Any = None
        self._greenlets: set[gevent.Greenlet] = set()

    def __enter__(self) -> Any:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    @property
    def host(self) -> str:
        return self.address[0]

    @property
    def port(self) -> int:
        return self.address[1]

    def start(self) -> None:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listener.bind(self.address)
        listener.listen(64)
        self.address = listener.getsockname()
        self._listener = listener
        self.spawn(self._accept, listener)

    def kill(self, reset: bool = False) -> None:
        """As ``kill -9``: nothing is said, connections end with EOF, or RST."""
        mine = gevent.getcurrent()
        gevent.killall([one for one in self._greenlets if one is not mine])
        self._greenlets.clear()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for peer in list(self.peers):
            peer.close(reset)
        self.peers.clear()

    def cut(self, reset: bool = False) -> None:
        """End the connections, and go on."""
        for peer in list(self.peers):
            if not reset:
                with suppress(OSError):
                    peer.sock.shutdown(socket.SHUT_RDWR)
            peer.close(reset)

    def spawn(self, run: Callable[..., Any], *args: Any) -> None:
        greenlet = gevent.spawn(run, *args)
        self._greenlets.add(greenlet)
        greenlet.rawlink(self._greenlets.discard)

    def _accept(self, listener: Any) -> None:
        while True:
            sock, _ = listener.accept()
            self.connections += 1
            self.spawn(self._run, sock)

    def _run(self, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = Peer(self, sock)
        self.peers.add(peer)
        try:
            if self.tls is not None:
                peer.sock = self.tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                peer.sock.do_handshake()
            if self.instead is not None:
                self.instead(peer)
            else:
                self.serve(peer)
        except (Rude, OSError, ValueError):
            pass
        finally:
            self.peers.discard(peer)
            peer.close()

    def serve(self, peer: Peer) -> None:
        raise NotImplementedError

    def form(self, peer: Peer, headers: dict[str, str], body: bytes) -> dict[str, str] | None:
        """The fields of a form; None when the key was wrong, which is answered."""
        if headers.get("secretkey") != self.key:
            peer.answer("200 OK", b'{"code":-1,"msg":"Secret key matching error"}')
            return None
        if "urlencoded" not in headers.get("content-type", ""):
            return {}
        return {name: values[0] for name, values in parse_qs(body.decode(), keep_blank_values=True).items()}


class StandIn(HttpServer):
    """The KapokMQ server.

    :param speed: how many of its seconds pass in one.
    :param push_type: 1 for one consumer, 2 for all.
    :param check: its seconds between checks.
    :param retry_time: its seconds until a push is repeated.
    :param persistence: 0 loses everything with :meth:`kill`, 2 nothing.
    :param channel: messages that wait to be pushed; more block their producers.
    """

    def __init__(
        self,
        *,
        speed: float = 1.0,
        push_type: int = 1,
        check: int = 1,
        retry_time: int = 300,
        push_count: int = 1000,
        push_speed: float = 0.0,
        clean_time: int = 172_800,
        re_push: bool = True,
        clean_consumed: bool = False,
        persistence: int = 0,
        channel: int = 10_000_000,
        key: str = "test",
        tls: Any = None,
    ) -> None:
        super().__init__(key, tls)
        self.speed = speed
        self.push_type = push_type
        self.check = check
        self.retry_time = retry_time
        self.push_count = push_count
        self.push_speed = push_speed
        self.clean_time = clean_time
        self.re_push = re_push
        self.clean_consumed = clean_consumed
        self.persistence = persistence
        self.channel = channel
        self.messages: dict[str, Stored] = {}
        self.producers: dict[tuple[str, str, str, int], Peer] = {}
        self.consumers: dict[tuple[str, str, str, int], Peer] = {}
        #: Every login that succeeded: when (monotonic), kind, topic, id.
        self.logins: list[tuple[float, str, str, str]] = []
        #: Keys that were offered.
        self.attempts: list[str] = []
        #: Texts of all messages taken, also of those lost since.
        self.taken: list[str] = []
        #: Codes acknowledged, known or not.
        self.acked: list[str] = []
        self.registry: Registry | None = None
        # Faults.
        #: So many logins are dropped: ``"prompt"`` before the prompt, ``"key"`` after the key.
        self.drop_logins = 0
        self.drop_at = "key"
        #: Cleared: messages are taken and not acknowledged.
        self.acking = Event()
        #: Cleared: nothing is pushed, as after the real server's map was corrupted.
        self.pushing = Event()
        #: Cleared: nothing is read from producers.
        self.reading = Event()
        #: Set: as a master that has no slave it drops the link at the first message, and acknowledges none from then on.
        self.master_without_slave = False
        self.acking.set()
        self.pushing.set()
        self.reading.set()
        self._began = time.time(), time.monotonic()

    def now(self) -> int:
        """Its clock, whole seconds."""
        wall, monotonic = self._began
        return int(wall + (time.monotonic() - monotonic) * self.speed)

    def start(self) -> None:
        super().start()
        self._channel: Queue = Queue(self.channel)
        self.spawn(self._push)
        self.spawn(self._check)
        if self.registry is not None:
            self.registry.join(self)

    def kill(self, reset: bool = False) -> None:
        super().kill(reset)
        self.producers.clear()
        self.consumers.clear()
        if self.persistence == 0:
            self.messages.clear()
        if self.registry is not None:
            self.registry.died(self)

    def put(self, topic: str, data: str, delay: int = 0) -> str:
        """Take a message; blocks while the channel is full."""
        code = uuid.uuid4().hex
        message = Stored(code, data, topic, self.now(), 0, delay, 0 if delay > 0 else -1)
        self.taken.append(data)
        self.messages[code] = message
        self._channel.put(message)
        return code

    # -- the queue -----------------------------------------------------------------------------------------------------------

    def _push(self) -> None:
        count = 0
        while True:
            if count == self.push_count:
                gevent.sleep(self.push_speed)
                count = 0
            message = self._channel.get()
            self.pushing.wait()
            count += 1
            if message.Status == 0 or not message.Topic:
                continue
            live = [(key, peer) for key, peer in self.consumers.items() if key[1] == message.Topic]
            if self.push_type == 1 and live:
                live = [random.choices(live, weights=[4**at for at in range(len(live))])[0]]
            # A consumer that does not read holds up this greenlet, and so everybody.
            pushes = [gevent.spawn(self._push_to, key, peer, message.json()) for key, peer in live]
            for push in pushes:
                self._greenlets.add(push)
                push.rawlink(self._greenlets.discard)
            gevent.joinall(pushes)

    def _push_to(self, key: tuple[str, str, str, int], peer: Peer, body: bytes) -> None:
        try:
            peer.push(body)
        except OSError:
            peer.close()
            self.consumers.pop(key, None)

    def _check(self) -> None:
        while True:
            gevent.sleep(self.check / self.speed)
            now = self.now()
            due = list(self.messages.values())
            random.shuffle(due)
            for message in due:
                age = now - message.CreateTime
                if age > self.clean_time:
                    self.messages.pop(message.MessageCode, None)
                elif message.Status == 0:
                    if age >= message.DelayTime:
                        message.Status = -1
                        self._channel.put(message)
                elif message.Status == -1 and self.re_push and message.DelayTime + self.retry_time < age:
                    message.DelayTime = age
                    self._channel.put(message)

    # -- connections ---------------------------------------------------------------------------------------------------------

    def serve(self, peer: Peer) -> None:
        method, path, headers, body = peer.read_head()
        parts = path.split("/")
        is_socket = parts[1:3] in (["Producers", "Conn"], ["Consumers", "Conn"])
        if method == "POST":
            self._serve_http(peer, path, headers, body)
        elif is_socket and len(parts) == 6 and not parts[5]:
            peer.answer("301 Moved Permanently", b"", more=f"Location: {path[:-1]}\r\n")
        elif method != "GET" or not is_socket or len(parts) != 5 or not parts[4] or "%2f" in path.lower():
            peer.answer("404 Not Found", b"404 page not found", "text/plain")
        elif (
            headers.get("upgrade", "").lower() != "websocket"
            or headers.get("sec-websocket-version") != "13"
            or not headers.get("sec-websocket-key")
        ):
            peer.answer("400 Bad Request", b"Bad Request\n", "text/plain; charset=utf-8")
        else:
            peer.sock.sendall(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {accept_token(headers['sec-websocket-key'])}\r\n\r\n".encode()
            )
            self._serve_socket(peer, parts[1][:-1].lower(), unquote(parts[3]), unquote(parts[4]))

    def _serve_socket(self, peer: Peer, kind: str, topic: str, client_id: str) -> None:
        if self.drop_logins and self.drop_at == "prompt":
            self.drop_logins -= 1
            raise Rude
        while True:
            peer.send_text(PROMPT)
            offered = peer.message().decode(errors="replace")
            self.attempts.append(offered)
            if self.drop_logins:
                self.drop_logins -= 1
                raise Rude
            if offered == self.key:
                break
            peer.send_text(WRONG_KEY)
        table = self.producers if kind == "producer" else self.consumers
        peer.send_text(LOGGED_IN)
        key = (client_id, topic, "127.0.0.1", self.now())
        table[key] = peer
        self.logins.append((time.monotonic(), kind, topic, client_id))
        try:
            (self._serve_producer if kind == "producer" else self._serve_consumer)(peer, topic)
        finally:
            # By the key: with two clients of one id and one second the survivor is forgotten too.
            table.pop(key, None)

    def _serve_producer(self, peer: Peer, topic: str) -> None:
        while True:
            self.reading.wait()
            data, delay = parse_send(peer.message())
            if self.master_without_slave and self.acking.is_set():
                self.acking.clear()
                raise Rude
            if self.acking.is_set():
                peer.send_text(b"ok")
            self.put(topic, data, delay)

    def _serve_consumer(self, peer: Peer, topic: str) -> None:
        while True:
            code = peer.message().decode(errors="replace")
            self.acked.append(code)
            if (message := self.messages.get(code)) is not None:
                message.Status = 1
                message.ConsumedTime = self.now()
                if self.clean_consumed:
                    del self.messages[code]

    # -- HTTP ----------------------------------------------------------------------------------------------------------------

    def _serve_http(self, peer: Peer, path: str, headers: dict[str, str], body: bytes) -> None:
        calls = {
            "/Console/Ping": lambda form: {"code": 0},
            "/Console/CountMessage": self._count,
            "/Console/GetClients": self._clients,
            "/Console/GetConfig": self._config,
            "/Console/GetMessageList": self._list,
            "/Console/GetMessage": self._get,
            "/Console/DelMessage": self._delete,
            "/Console/GetNodes": lambda form: None if self.registry is None else self.registry.listed(),
            "/Producer/Send": self._send,
        }
        if path not in calls:
            peer.answer("404 Not Found", b"404 page not found", "text/plain")
        elif (form := self.form(peer, headers, body)) is not None:
            answer = calls[path](form)
            peer.answer("200 OK", b"" if answer is None else json.dumps(answer, ensure_ascii=False).encode())

    def _count(self, form: dict[str, str]) -> Any:
        status = [message.Status for message in self.messages.values()]
        counts = {"all": len(status), "consumed": status.count(1), "delay": status.count(0), "unconsumed": status.count(-1)}
        return {"code": 0, "data": counts}

    def _clients(self, form: dict[str, str]) -> Any:
        def listed(kind: str, table: dict[tuple[str, str, str, int], Peer]) -> Any:
            return [
                {f"{kind}Id": one, "Topic": topic, f"{kind}Ip": ip, "JoinTime": joined} for one, topic, ip, joined in table
            ] or None

        return {
            "code": 0,
            "consumers": listed("Consumer", self.consumers),
            "producers": listed("Producer", self.producers),
        }

    def _config(self, form: dict[str, str]) -> Any:
        settings = {"pushType": self.push_type, "checkSpeed": self.check, "pushRetryTime": self.retry_time}
        return {"code": 0, "data": {**settings, "pushCount": self.push_count, "isPersistent": self.persistence}}

    def _list(self, form: dict[str, str]) -> Any:
        start, end = stamp(form.get("startTime", "")), stamp(form.get("endTime", ""))
        text = form.get("status", "")
        status = int(text) if text.lstrip("-").isdecimal() else 0
        found = [
            {**asdict(message), "MessageData": ""}
            for message in self.messages.values()
            if start <= message.CreateTime <= end
            and status in (3, message.Status)
            and form.get("topic", "") in ("", message.Topic)
        ]
        return {"code": 0, "data": sorted(found, key=lambda one: -one["CreateTime"]) or None}

    def _get(self, form: dict[str, str]) -> Any:
        message = self.messages.get(form.get("messageCode", ""))
        return {"code": -1, "data": "error"} if message is None else {"code": 0, "data": asdict(message)}

    def _delete(self, form: dict[str, str]) -> Any:
        self.messages.pop(form.get("messageCode", ""), None)
        return {"code": 0}

    def _send(self, form: dict[str, str]) -> Any:
        try:
            delay = int(form.get("delayTime", ""))
        except ValueError:
            return {"code": -1, "msg": {"Func": "ParseInt"}}
        if not form.get("messageData") or not form.get("topic"):
            return {"code": -1, "msg": "Required data cannot be empty"}
        return {"code": 0, "msg": self.put(form["topic"], form["messageData"], delay)}


class Registry(HttpServer):
    """The Serena registry.

    :param stale: seconds that a dead server is listed still.
    """

    def __init__(self, *, stale: float = 6.0, key: str = "test", tls: Any = None) -> None:
        super().__init__(key, tls)
        self.stale = stale
        #: Server -> when its entry ends.
        self._nodes: dict[StandIn, float] = {}
        self.requests = 0

    def join(self, server: StandIn) -> None:
        """List a server."""
        server.registry = self
        self._nodes[server] = float("inf")

    def died(self, server: StandIn) -> None:
        if server in self._nodes:
            self._nodes[server] = time.monotonic() + self.stale

    def restart(self) -> None:
        """Forget everybody, as the real one does when it was away for long; servers that are restarted come back."""
        self.kill()
        self._nodes.clear()
        self.start()

    def listed(self) -> Any:
        now = time.monotonic()
        found = [
            {"Name": f"mq:{server.host}:{server.port}", "Addr": server.host, "Port": str(server.port)}
            for server, until in self._nodes.items()
            if until > now
        ]
        random.shuffle(found)
        return found or None

    def serve(self, peer: Peer) -> None:
        method, path, headers, body = peer.read_head()
        if (method, path) != ("POST", "/Registry/GetNodes"):
            peer.answer("404 Not Found", b"404 page not found", "text/plain")
        elif self.form(peer, headers, body) is not None:
            self.requests += 1
            peer.answer("200 OK", json.dumps(self.listed()).encode(), "text/plain; charset=utf-8")


def parse_send(data: bytes) -> tuple[str, int]:
    """What a producer sent, read as Go's ``encoding/json`` does.

    :raises Rude: it is malformed.
    """
    try:
        found = json.loads(data.decode("utf-8", "replace"), object_pairs_hook=list)
    except ValueError:
        raise Rude from None
    if not isinstance(found, list) or (found and not isinstance(found[0], tuple)):
        raise Rude
    if not found and data.strip()[:1] != b"{":
        raise Rude
    text, delay = "", 0
    for name, value in found:
        if value is None:
            continue
        if name.lower() == "messagedata":
            if not isinstance(value, str):
                raise Rude
            text = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        elif name.lower() == "delaytime":
            if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
                raise Rude
            delay = value
    return text, delay


def stamp(text: str) -> int:
    """Unix seconds of a local time; what cannot be read is very old."""
    try:
        return int(time.mktime(time.strptime(text, "%Y-%m-%d %H:%M:%S")))
    except (ValueError, OverflowError):
        return -(1 << 40)
