"""A real RocketMQ cluster of one nameserver and some brokers on loopback, for tests and benchmarks.

>>> with RealCluster("5.5.0") as cluster:
...     client = connect(cluster.namesrv)
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import string
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import gevent.ssl
from gevent import Timeout, socket

from tests.certificates import Authority

from .jvm import (
    QUICK_OPTIONS,
    JavaError,
    JavaProcess,
    Unavailable,
    driver_classes,
    jars,
    run,
    tool,
    wait_until,
)

__all__ = ["DEFAULT_VERSION", "RealCluster", "Unavailable", "jars", "mqadmin", "remoting_request", "wait_until"]

DEFAULT_VERSION = "5.5.0"

BOOT_TIMEOUT = 120.0
STOP_TIMEOUT = 60.0
MQADMIN_TIMEOUT = 60.0
#: Brokers register at least every 10 s, the shortest period they allow.
REGISTER_TIMEOUT = 30.0

CREATE_TOPIC, UPDATE_BROKER_CONFIG, GET_ROUTE, CLUSTER_INFO = 17, 25, 105, 106
#: What nameserver and broker print when they are up.
BOOTED = "boot success"

#: Small files, quick registration, patience with slow machines; what clients can see stays at its default.
BROKER_SETTINGS: Mapping[str, object] = {
    "brokerClusterName": "DefaultCluster",
    "brokerId": 0,
    "brokerRole": "ASYNC_MASTER",
    "flushDiskType": "ASYNC_FLUSH",
    "brokerIP1": "127.0.0.1",
    "brokerIP2": "127.0.0.1",
    "bindAddress": "127.0.0.1",
    "autoCreateTopicEnable": True,
    "autoCreateSubscriptionGroup": True,
    "registerNameServerPeriod": 10000,
    # Each second by default, which keeps a third of a core busy in an idle broker.
    "timerFlushIntervalMs": 30000,
    # A broker of 5.x computes without a pause until this is over for the first time, by default 10 s.
    "transactionMetricFlushInterval": 500,
    # It computes without a pause, too, from this long (ms) after the last transaction's end on; with a size of 1 it notes
    # each end at once instead of gathering them for that time.
    "transactionOpBatchInterval": 3_600_000,
    "transactionOpMsgMaxSize": 1,
    "waitTimeMillsInSendQueue": 1000,
    "mappedFileSizeCommitLog": 64 << 20,
    "mappedFileSizeConsumeQueue": 20 * 50_000,
    "mappedFileSizeTimerLog": 8 << 20,
    "maxHashSlotNum": 100_000,
    "maxIndexNum": 400_000,
    "diskMaxUsedSpaceRatio": 95,
}

#: For a cluster with slaves: they stand in for a master that is away.
ACTING_MASTERS: Mapping[str, object] = {"enableSlaveActingMaster": True, "slaveReadEnable": True, "totalReplicas": 2}
SLAVE = "-slave"

#: TLS contexts, which nobody asks for, take a third of the boot. For a benchmark's or a TLS test's ``jvm_options`` the
#: last word counts.
SERVER_OPTIONS = ("-Dtls.server.mode=disabled",)

#: Else a broker on a disk that is nine tenths full refuses messages.
BROKER_OPTIONS = (
    *SERVER_OPTIONS,
    "-Drocketmq.broker.diskSpaceWarningLevelRatio=0.99",
    "-Drocketmq.broker.diskSpaceCleanForciblyRatio=0.98",
)

#: Releases before 5 read ``conf/logback_*.xml`` in ROCKETMQ_HOME; later ones bring theirs in the jars, which write
#: below ``user.home``, as this does.
LOGBACK = """<configuration>
  <appender name="file" class="ch.qos.logback.core.FileAppender">
    <file>${user.home}/logs/rocketmqlogs/rocketmq.log</file>
    <encoder><pattern>%d %p %t %logger{0} - %m%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="file"/></root>
</configuration>
"""


def remoting_request(
    address: str,
    code: int,
    fields: Mapping[str, str] | None = None,
    body: bytes = b"",
    timeout: float = 3.0,
    tls: gevent.ssl.SSLContext | None = None,
) -> tuple[int, bytes]:
    """One request on a connection of its own; returns response code and body.

    Written out here, so that the harness does not lean on the code it tests.
    """
    header = {
        "code": code,
        "flag": 0,
        "language": "OTHER",
        "version": 453,
        "opaque": 1,
        "extFields": dict(fields or {}),
    }
    encoded = json.dumps(header).encode()
    host, port = address.rsplit(":", 1)
    too_late = TimeoutError(f"{address} did not answer request {code} within {timeout:g} s")
    with Timeout(timeout, too_late), _connect(host, int(port), timeout, tls) as connection:
        connection.sendall(struct.pack(">II", 4 + len(encoded) + len(body), len(encoded)) + encoded + body)
        with connection.makefile("rb") as stream:
            prefix = stream.read(8)
            length, header_length = struct.unpack(">II", prefix) if len(prefix) == 8 else (4, 0)
            frame = stream.read(length - 4)
    header_length &= 0xFFFFFF  # the top byte says how the header is encoded: JSON, like ours
    if not 0 < header_length <= len(frame) == length - 4:
        raise ConnectionError(f"{address} closed within its answer to request {code}")
    return json.loads(frame[:header_length])["code"], frame[header_length:]


@contextlib.contextmanager
def _connect(host: str, port: int, timeout: float, tls: gevent.ssl.SSLContext | None) -> Iterator[socket.socket]:
    with socket.create_connection((host, port), timeout) as plain:
        if tls is None:
            yield plain
            return
        with tls.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False) as secure:
            secure.do_handshake()
            yield secure


def free_ports(count: int) -> int:
    """First of ``count`` neighbouring free ports, below the range from which outgoing connections take theirs."""
    for _ in range(200):
        first = random.randrange(10_240, 32_000)
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("", port))
        except OSError:
            continue
        return first
    raise Unavailable("no free ports on loopback")


class ClusterTLS:
    """Files with the certificates of a cluster that takes TLS only, and only from who has a certificate of its authority.

    :param directory: where to write them.
    """

    def __init__(self, directory: Path) -> None:
        self.authority = Authority()
        self.ca_file = self.authority.write(directory)
        self.server = self.authority.issue().write(directory, "server")
        self.client = self.authority.issue("client.example").write(directory, "client")

    def jvm_options(self) -> tuple[str, ...]:
        """For brokers and name servers, which are clients too, and for Java's client."""
        files = {
            "tls.server.mode": "enforcing",
            "tls.server.need.client.auth": "require",
            "tls.server.authClient": "true",
            "tls.server.certPath": self.server.cert,
            "tls.server.keyPath": self.server.key,
            "tls.server.trustCertPath": self.ca_file,
            "tls.test.mode.enable": "false",
            "tls.enable": "true",
            "tls.client.authServer": "true",
            "tls.client.certPath": self.client.cert,
            "tls.client.keyPath": self.client.key,
            "tls.client.trustCertPath": self.ca_file,
        }
        return tuple(f"-D{name}={value}" for name, value in files.items())

    def context(self) -> gevent.ssl.SSLContext:
        """For a client of the harness."""
        context = gevent.ssl.SSLContext(gevent.ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca_file)
        context.load_cert_chain(self.client.cert, self.client.key)
        return context


class RealCluster:
    """A nameserver and brokers ``broker-a``, ``broker-b``, ... of one release, with data that lives until :meth:`stop`.

    Methods block cooperatively (other greenlets run) and have deadlines. Processes die with this process.

    :param version: RocketMQ release, e.g. ``"5.5.0"``.
    :param brokers: number of brokers, each a master of its own.
    :param settings: entries of ``broker.conf`` for all brokers, over :data:`BROKER_SETTINGS`.
    :param jvm_options: options of the brokers' JVMs, e.g. other heaps and compilers for a benchmark.
    :param tls: whether all of it takes TLS only; then :attr:`tls` has the certificates.
    :param slaves: names of brokers that have a slave, ``broker-a-slave``, which acts as master while its own is away.
    :param files: more files for the directory ``conf`` of ROCKETMQ_HOME, by name.
    """

    def __init__(
        self,
        version: str = DEFAULT_VERSION,
        brokers: int = 2,
        settings: Mapping[str, object] | None = None,
        jvm_options: Sequence[str] = QUICK_OPTIONS,
        tls: bool = False,
        files: Mapping[str, str] | None = None,
        slaves: Sequence[str] = (),
    ) -> None:
        self.version = version
        self.tls: ClusterTLS | None = None
        self._with_tls = tls
        self._files = dict(files or {})
        self.settings = {**BROKER_SETTINGS, **(ACTING_MASTERS if slaves else {}), **(settings or {})}
        self.jvm_options = tuple(jvm_options)
        self.broker_names = tuple(f"broker-{letter}" for letter in string.ascii_lowercase[:brokers])
        self.slave_names = tuple(name + SLAVE for name in slaves)
        self.namesrv = ""
        self._classpath = ""
        self._root: Path | None = None
        self._ports: dict[str, int] = {}
        self._processes: dict[str, JavaProcess] = {}

    def __enter__(self) -> RealCluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def root(self) -> Path:
        """Directory of this run; has one directory with data and logs per process."""
        if self._root is None:
            raise JavaError("the cluster is not started")
        return self._root

    def start(self) -> None:
        """Start everything; returns when the nameserver knows all brokers.

        :raises Unavailable: no JDK, or the jars cannot be had.
        :raises JavaError: a process ended or is not ready in time, with the end of its logs.
        """
        self._classpath = f"{driver_classes(self.version)}{os.pathsep}{jars(self.version)}/*"
        self._root = Path(tempfile.mkdtemp(prefix="grocketmq-cluster-"))
        try:
            conf = self.root / "home" / "conf"
            conf.mkdir(parents=True)
            for name in ("namesrv", "broker", "tools"):
                (conf / f"logback_{name}.xml").write_text(LOGBACK)
            for name, text in self._files.items():
                (conf / name).write_text(text)
            if self._with_tls:
                self.tls = ClusterTLS(self.root)
            self._ports["namesrv"] = free_ports(1)
            self.namesrv = f"127.0.0.1:{self._ports['namesrv']}"
            for name in (*self.broker_names, *self.slave_names):
                self._ports[name] = 2 + free_ports(4)  # listens on the port - 2 .. the port + 1
            self.start_namesrv()
            self.start_brokers(self.broker_names)
            self.start_brokers(self.slave_names)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill all processes and remove their data (kept when ``GROCKETMQ_KEEP_BROKER_DATA`` is set)."""
        for process in self._processes.values():
            process.kill()
        self._processes.clear()
        if self._root is not None and not os.environ.get("GROCKETMQ_KEEP_BROKER_DATA"):
            shutil.rmtree(self._root, ignore_errors=True)
        self._root = None

    def heal(self) -> None:
        """Bring everything back that a test stopped, killed or paused."""
        for process in self._processes.values():
            process.signal(signal.SIGCONT)
        if not self.running("namesrv"):
            self.start_namesrv()
        for names in (self.broker_names, self.slave_names):
            self.start_brokers([name for name in names if not self.running(name)])
        self._wait_registered(self.broker_names)

    def running(self, name: str) -> bool:
        """Whether the process of a broker, or of ``"namesrv"``, is alive."""
        return name in self._processes and self._processes[name].alive

    # -- brokers

    def broker_address(self, name: str) -> str:
        """``host:port`` of a broker, the same over its restarts."""
        return f"127.0.0.1:{self._ports[name]}"

    def start_broker(self, name: str) -> None:
        """Start a broker with the port and data it had; returns when the nameserver knows it."""
        self.start_brokers([name])

    def start_brokers(self, names: Iterable[str]) -> None:
        """Start several brokers at once, which takes little longer than one."""
        names = list(names)
        for name in names:
            home = self.root / name
            home.mkdir(exist_ok=True)
            (home / "broker.conf").write_text(self._broker_conf(name))
            options = (*BROKER_OPTIONS, *self.jvm_options, *self._tls_options())
            self._spawn(name, "org.apache.rocketmq.broker.BrokerStartup", home / "broker.conf", options)
        for name in names:
            self._wait_ready(name, partial(self._processes[name].printed, BOOTED), BOOT_TIMEOUT)
        if self.running("namesrv"):
            self._wait_registered(names)

    def stop_broker(self, name: str) -> None:
        """Let a broker end in order (SIGTERM)."""
        self._processes[name].terminate(STOP_TIMEOUT)

    def kill_broker(self, name: str) -> None:
        """``kill -9`` a broker; its data stays."""
        self._processes[name].kill()

    def pause_broker(self, name: str) -> None:
        """Freeze a broker (SIGSTOP): connections stay open, nothing is answered."""
        self._processes[name].signal(signal.SIGSTOP)

    def resume_broker(self, name: str) -> None:
        """Undo :meth:`pause_broker`."""
        self._processes[name].signal(signal.SIGCONT)

    # -- nameserver

    def start_namesrv(self) -> None:
        """Start the nameserver on its port; returns when it answers and knows all brokers that run."""
        home = self.root / "namesrv"
        home.mkdir(exist_ok=True)
        acting = _conf_value(bool(self.slave_names))
        port = self._ports["namesrv"]
        (home / "namesrv.conf").write_text(f"listenPort={port}\nbindAddress=127.0.0.1\nsupportActingMaster={acting}\n")
        self._spawn(
            "namesrv",
            "org.apache.rocketmq.namesrv.NamesrvStartup",
            home / "namesrv.conf",
            (*QUICK_OPTIONS, *self._tls_options()),
        )
        self._wait_ready("namesrv", partial(self._processes["namesrv"].printed, BOOTED), BOOT_TIMEOUT)
        self._wait_registered([name for name in self.broker_names if self.running(name)])

    def stop_namesrv(self) -> None:
        """Let the nameserver end in order (SIGTERM)."""
        self._processes["namesrv"].terminate(STOP_TIMEOUT)

    def kill_namesrv(self) -> None:
        """``kill -9`` the nameserver."""
        self._processes["namesrv"].kill()

    # -- administration

    def mqadmin(self, *arguments: str) -> str:
        """Run ``mqadmin`` with ``-n`` added; returns what it printed. Takes a second or two: it is a JVM."""
        (output,) = mqadmin(self.version, self.namesrv, self.root / "mqadmin", arguments)
        return output

    def create_topic(self, topic: str, queues: int = 4, *, perm: int = 6, order: bool = False, attributes: str = "") -> None:
        """Create a topic on every broker; returns when the nameserver tells all of them.

        :param queues: queues per broker, for reading and writing.
        :param attributes: topic attributes of 5.x, e.g. ``"+message.type=FIFO"``.
        """
        fields = {
            "topic": topic,
            "defaultTopic": "TBW102",
            "readQueueNums": str(queues),
            "writeQueueNums": str(queues),
            "perm": str(perm),
            "topicFilterType": "SINGLE_TAG",
            "topicSysFlag": "0",
            "order": str(order).lower(),
            **({"attributes": attributes} if attributes else {}),
        }
        for name in self.broker_names:
            code, _ = self.request(self.broker_address(name), CREATE_TOPIC, fields, timeout=10.0)
            if code:
                raise JavaError(f"{name} refused topic {topic} with code {code}")
        wait_until(lambda: self._routed(topic), REGISTER_TIMEOUT, f"the nameserver routes {topic} to every broker")

    def request(
        self, address: str, code: int, fields: Mapping[str, str] | None = None, body: bytes = b"", timeout: float = 3.0
    ) -> tuple[int, bytes]:
        """:func:`remoting_request` as this cluster takes it."""
        tls = None if self.tls is None else self.tls.context()
        return remoting_request(address, code, fields, body, timeout, tls)

    # -- inside

    def _tls_options(self) -> tuple[str, ...]:
        return () if self.tls is None else self.tls.jvm_options()

    def _environment(self) -> dict[str, str]:
        return {"ROCKETMQ_HOME": str(self.root / "home"), "NAMESRV_ADDR": self.namesrv}

    def _broker_conf(self, name: str) -> str:
        port, store = self._ports[name], self.root / name / "store"
        slave = {"brokerId": 1, "brokerRole": "SLAVE"} if name in self.slave_names else {}
        settings = {
            "brokerName": name.removesuffix(SLAVE),
            "namesrvAddr": self.namesrv,
            "listenPort": port,
            "haListenPort": port + 1,
            "storePathRootDir": store,
            "storePathCommitLog": store / "commitlog",
            **self.settings,
            **slave,
        }
        return "".join(f"{key}={_conf_value(value)}\n" for key, value in settings.items())

    def _spawn(self, name: str, main: str, conf: Path, options: Sequence[str]) -> None:
        if self.running(name):
            raise JavaError(f"{name} runs already")
        self._processes[name] = JavaProcess(
            main,
            ["-c", str(conf)],
            classpath=self._classpath,
            home=self.root / name,
            options=options,
            environment=self._environment(),
        )

    def _wait_registered(self, names: Iterable[str]) -> None:
        for name in names:
            self._wait_ready(name, partial(self._registered, name), REGISTER_TIMEOUT, interval=0.2)

    def _registered(self, name: str) -> bool:
        """Whether the nameserver knows a broker that runs; if not, the broker is made to register now.

        A broker of 5.x that boots faster than its client connects skips its first registration, and after a restart of
        the nameserver the next one may be 10 s away. Setting ``brokerPermission`` to what it is registers at once.
        """
        address, info = self.broker_address(name), self._cluster_info()
        if f'"{name.removesuffix(SLAVE)}"'.encode() in info and f'"{address}"'.encode() in info:
            return True
        try:
            self.request(address, UPDATE_BROKER_CONFIG, body=b"brokerPermission=6", timeout=1.0)
        except OSError:
            pass
        return False

    def _wait_ready(self, name: str, condition: Callable[[], object], timeout: float, interval: float = 0.05) -> None:
        process = self._processes[name]
        try:
            wait_until(lambda: not process.alive or condition(), timeout, f"{name} is ready", interval)
        except TimeoutError as error:
            raise JavaError(f"{error}\n{process.report()}") from None
        if not process.alive:
            raise JavaError(f"{name} ended at once\n{process.report()}")

    def _cluster_info(self) -> bytes:
        """The nameserver's cluster info, not parsed, as it is not strict JSON; empty when it does not answer."""
        try:
            return self.request(self.namesrv, CLUSTER_INFO)[1]
        except OSError:
            return b""

    def _routed(self, topic: str) -> bool:
        code, body = self.request(self.namesrv, GET_ROUTE, {"topic": topic})
        return code == 0 and all(f'"{name}"'.encode() in body for name in self.broker_names)


def mqadmin(version: str, namesrv: str, home: Path, *commands: Sequence[str]) -> list[str]:
    """Run commands of ``mqadmin`` in one JVM, with ``-n`` added; returns what each printed.

    :param home: a directory for it; its ``conf`` must be one below ``home/../home``, which :class:`RealCluster` makes.
    :raises JavaError: when it fails.
    """
    home.mkdir(exist_ok=True, parents=True)
    arguments: list[str] = []
    for name, *rest in commands:
        arguments += ["--then"] * bool(arguments) + [name, "-n", namesrv, *rest]
    classpath = f"{driver_classes(version)}{os.pathsep}{jars(version)}/*"
    command = [
        tool("java"), *QUICK_OPTIONS, "-XX:-UsePerfData", f"-Duser.home={home}", "-cp", classpath, "Admin", *arguments,
    ]  # fmt: skip
    environment = {**os.environ, "ROCKETMQ_HOME": str(home.parent / "home"), "NAMESRV_ADDR": namesrv}
    status, output = run(command, MQADMIN_TIMEOUT, env=environment, cwd=home)
    if status:
        raise JavaError(f"mqadmin {' '.join(arguments)}: exit status {status}\n{output}")
    return output.split("\f")[: len(commands)]


def _conf_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
