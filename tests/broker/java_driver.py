"""The official Java client under the tests' command: one JVM with any number of producers and consumers."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gevent
import gevent.lock
from gevent.event import AsyncResult
from gevent.fileobject import FileObject

from .jvm import QUICK_OPTIONS, JavaError, JavaProcess, driver_classes, jars, wait_until

START_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0

#: Java spells the third one so.
JavaTransactionState = Literal["COMMIT_MESSAGE", "ROLLBACK_MESSAGE", "UNKNOW"]


@dataclass(frozen=True)
class JavaSendResult:
    """What the Java producer returned for a message (or for a batch)."""

    status: str
    msg_id: str
    offset_msg_id: str
    broker_name: str
    queue_id: int
    queue_offset: int


@dataclass(frozen=True)
class JavaMessage:
    """A message as the Java consumer saw it; ``tags`` and ``keys`` are ``None`` when absent."""

    topic: str
    msg_id: str
    offset_msg_id: str | None
    body: bytes
    tags: str | None
    keys: str | None
    properties: dict[str, str]
    broker_name: str
    queue_id: int
    queue_offset: int
    reconsume_times: int
    sys_flag: int
    born_timestamp: int
    store_timestamp: int


class JavaConsumer:
    """A Java push consumer; its ``messages`` grow, in the order they came, until :meth:`stop`."""

    def __init__(self, driver: JavaDriver, handle: str) -> None:
        self.messages: list[JavaMessage] = []
        self._driver = driver
        self._handle = handle

    def __enter__(self) -> JavaConsumer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of :attr:`messages`."""
        return [message.body for message in self.messages]

    def wait(self, count: int, timeout: float = 60.0) -> list[JavaMessage]:
        """Wait for at least ``count`` messages and return all there are; ``TimeoutError`` says how many came."""
        try:
            wait_until(lambda: len(self.messages) >= count or not self._driver.alive, timeout, "messages")
        except TimeoutError:
            raise TimeoutError(f"Java got {len(self.messages)} of {count} messages within {timeout:g} s") from None
        if len(self.messages) < count:
            raise JavaError(self._driver.report())
        return self.messages

    def assigned(self) -> set[tuple[str, str, int]]:
        """The queues this consumer has now, retry topic included: topic, broker name, queue id."""
        return {tuple(queue) for queue in self._driver.call("assigned", consumer=self._handle)}

    def stop(self) -> None:
        """Shut the consumer down in order, offsets stored."""
        self._driver.call("stop", consumer=self._handle)


class JavaTransactions:
    """A Java transactional producer; brokers can ask it from the start on, until :meth:`stop`."""

    def __init__(self, driver: JavaDriver, handle: str, topic: str) -> None:
        #: What brokers asked about, in the order of their questions.
        self.messages: list[JavaMessage] = []
        self._driver = driver
        self._handle = handle
        self._topic = topic

    def __enter__(self) -> JavaTransactions:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def send(self, body: bytes, local: JavaTransactionState, check: JavaTransactionState) -> JavaSendResult:
        """Send a message in a transaction.

        :param local: how the local transaction ends.
        :param check: what a broker that asks is told.
        """
        properties = {"local": local, "check": check}
        encoded = b64encode(body).decode()
        result = self._driver.call("transact", producer=self._handle, topic=self._topic, body=encoded, properties=properties)
        return JavaSendResult(**result)

    def stop(self) -> None:
        """Shut the producer down; brokers know it no more."""
        self._driver.call("stop", consumer=self._handle)


class JavaDriver:
    """Runs ``java/Driver.java`` against the jars of a release. Methods block cooperatively; safe from many greenlets.

    :param version: RocketMQ release of the Java client.
    :param namesrv: ``host:port`` of the nameserver that all its clients use.
    :param jvm_options: added JVM options, e.g. ``["-Drocketmq.message.compressType=LZ4"]``.
    """

    def __init__(self, version: str, namesrv: str, jvm_options: Sequence[str] = ()) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="grocketmq-driver-"))
        self._ids = itertools.count(1)
        self._calls: dict[int, AsyncResult[Any]] = {}
        self._consumers: dict[str, JavaConsumer | JavaTransactions] = {}
        child_in, our_out = os.pipe()
        our_in, child_out = os.pipe()
        try:
            self._process = JavaProcess(
                "Driver",
                [namesrv],
                classpath=f"{driver_classes(version)}{os.pathsep}{jars(version)}/*",
                home=self._home / "driver",
                options=(*QUICK_OPTIONS, *jvm_options),
                stdin=child_in,
                stdout=child_out,
            )
        except BaseException:
            os.close(our_out)
            os.close(our_in)
            shutil.rmtree(self._home, ignore_errors=True)
            raise
        finally:
            os.close(child_in)
            os.close(child_out)
        self._requests = FileObject(our_out, "wb")
        self._lines = FileObject(our_in, "rb")
        self._writing = gevent.lock.Semaphore()
        self._reader = gevent.spawn(self._read)
        self._reader.name = f"java driver {self._process.pid}"

    def __enter__(self) -> JavaDriver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether the JVM runs."""
        return self._process.alive

    def report(self) -> str:
        """The end of what the JVM wrote, for an error message."""
        return self._process.report()

    def close(self) -> None:
        """End the JVM, without shutting its clients down (stop consumers whose offsets matter)."""
        self._process.kill()
        self._reader.join(STOP_TIMEOUT)
        self._requests.close()
        self._lines.close()
        shutil.rmtree(self._home, ignore_errors=True)

    def call(self, command: str, timeout: float = 60.0, **arguments: object) -> Any:
        """Run a command of the driver's table and return its result; arguments that are ``None`` are left out.

        :raises JavaError: with the text of the exception in Java.
        :raises TimeoutError: no answer in time.
        """
        call_id = next(self._ids)
        answer: AsyncResult[Any] = AsyncResult()
        self._calls[call_id] = answer
        request = {"id": call_id, "command": command, **arguments}
        line = json.dumps({name: value for name, value in request.items() if value is not None}).encode() + b"\n"
        try:
            with gevent.Timeout(timeout, TimeoutError(f"driver: no answer to {command} within {timeout:g} s")):
                with self._writing:
                    self._requests.write(line)
                    self._requests.flush()
                return answer.get()
        except BrokenPipeError:
            raise JavaError(self.report()) from None
        finally:
            del self._calls[call_id]

    def send(
        self,
        topic: str,
        bodies: bytes | Iterable[bytes],
        *,
        tags: str | None = None,
        keys: str | Sequence[str] | None = None,
        properties: Mapping[str, str] | None = None,
        delay_level: int | None = None,
        queue: tuple[str, int] | None = None,
        hash_key: str | None = None,
        batch: bool = False,
        oneway: bool = False,
        compress_over: int | None = None,
        compress_type: Literal["ZLIB", "LZ4", "ZSTD"] | None = None,
        group: str = "java_driver_producer",
        namespace: str | None = None,
        namespace_v2: str | None = None,
        timeout: float = 60.0,
    ) -> list[JavaSendResult]:
        """Send one message per body, one after the other; all other parameters hold for each of them.

        :param keys: one text as it is, or several keys.
        :param queue: broker name and queue id, else the producer chooses.
        :param hash_key: choose the queue by Java's hash selector.
        :param batch: all in one batch, which gives one result.
        :param oneway: gives no results.
        :param compress_over: body size in bytes above which Java compresses, default its own 4096.
        :param compress_type: how it compresses, where the release gives the choice; default ``ZLIB``.
        :param group: producer group.
        :param namespace: a namespace in the names of topic and group.
        :param namespace_v2: one in fields of its own; releases from 5 on.
        """
        results = self.call(
            "send",
            timeout,
            topic=topic,
            bodies=[b64encode(body).decode() for body in ([bodies] if isinstance(bodies, bytes) else bodies)],
            tags=tags,
            keys=keys if keys is None or isinstance(keys, str) else " ".join(keys),
            properties=dict(properties) if properties is not None else None,
            delay_level=delay_level,
            queue={"broker_name": queue[0], "queue_id": queue[1]} if queue is not None else None,
            hash_key=hash_key,
            batch=batch,
            oneway=oneway,
            compress_over=compress_over,
            compress_type=compress_type,
            group=group,
            namespace=namespace,
            namespace_v2=namespace_v2,
        )
        return [JavaSendResult(**result) for result in results if result is not None]

    def request(
        self, topic: str, body: bytes, *, timeout: float = 30.0, group: str = "java_driver_producer", **options: Any
    ) -> JavaMessage:
        """Send a request and wait for its reply.

        :param timeout: seconds Java waits.
        :param options: ``compress_over`` and the like, as of :meth:`send`.
        """
        encoded = b64encode(body).decode()
        message = self.call(
            "request", timeout + 30.0, topic=topic, body=encoded, timeout_ms=round(timeout * 1000), group=group, **options
        )
        return JavaMessage(**{**message, "body": b64decode(message["body"])})

    def transactions(self, group: str, topic: str) -> JavaTransactions:
        """Start a transactional producer, a client instance of its own, for messages of a topic that exists."""
        handle = f"transactions-{next(self._ids)}"
        producer = self._consumers[handle] = JavaTransactions(self, handle, topic)
        self.call("transactional", START_TIMEOUT, producer=handle, group=group, topic=topic)
        return producer

    def consume(
        self,
        group: str,
        topic: str,
        expression: str = "*",
        *,
        sql: str | None = None,
        orderly: bool = False,
        broadcasting: bool = False,
        pop: bool = False,
        consistent_hash: bool = False,
        consume_from: Literal["first", "last", "timestamp"] = "first",
        timestamp: str | None = None,
        threads: int | None = None,
        batch_size: int | None = None,
        max_reconsume_times: int | None = None,
        fail_times: int = 0,
        pause: float = 0.0,
        namespace: str | None = None,
        namespace_v2: str | None = None,
        reply: bytes | None = None,
    ) -> JavaConsumer:
        """Start a push consumer, a client instance of its own; it collects all it gets.

        :param sql: SQL92 filter instead of the tag ``expression``.
        :param pop: let brokers share the queues out; whether by popping, their request mode for group and topic says.
        :param consistent_hash: share the queues out by consistent hashing instead of averaging.
        :param timestamp: ``yyyyMMddHHmmss`` for ``consume_from="timestamp"``.
        :param fail_times: the listener fails a message until it was reconsumed this often.
        :param pause: seconds the listener takes per call.
        :param namespace: as :meth:`send`.
        :param namespace_v2: as :meth:`send`.
        :param reply: reply to each message, this and then its own body; such messages are not collected.
        """
        handle = f"consumer-{next(self._ids)}"
        consumer = self._consumers[handle] = JavaConsumer(self, handle)
        self.call(
            "consume",
            START_TIMEOUT,
            consumer=handle,
            group=group,
            topic=topic,
            expression=expression,
            sql=sql,
            orderly=orderly,
            broadcasting=broadcasting,
            pop=pop,
            consistent_hash=consistent_hash,
            consume_from="CONSUME_FROM_TIMESTAMP"
            if consume_from == "timestamp"
            else f"CONSUME_FROM_{consume_from.upper()}_OFFSET",
            timestamp=timestamp,
            threads=threads,
            batch_size=batch_size,
            max_reconsume_times=max_reconsume_times,
            fail_times=fail_times,
            pause_ms=round(pause * 1000),
            namespace=namespace,
            namespace_v2=namespace_v2,
            reply=reply if reply is None else b64encode(reply).decode(),
        )
        return consumer

    def poll(self, group: str, topic: str) -> JavaConsumer:
        """Start a lite pull consumer at the first offset, which polls on and on and commits by itself; its ``assigned`` cannot
        be asked."""
        handle = f"poller-{next(self._ids)}"
        consumer = self._consumers[handle] = JavaConsumer(self, handle)
        self.call("poll", START_TIMEOUT, consumer=handle, group=group, topic=topic)
        return consumer

    def _read(self) -> None:
        """Hand answers to their callers and messages to their consumers until the JVM ends."""
        for line in self._lines:
            answer = json.loads(line)
            if "consumer" in answer:
                message = answer["message"]
                self._consumers[answer["consumer"]].messages.append(
                    JavaMessage(**{**message, "body": b64decode(message["body"])})
                )
            elif (call := self._calls.get(answer["id"])) is not None:
                if "error" in answer:
                    call.set_exception(JavaError(answer["error"]))
                else:
                    call.set(answer.get("result"))
        for call in self._calls.values():
            call.set_exception(JavaError(f"the driver ended\n{self.report()}"))
