"""Java for the broker tests: a release's jars, compiled driver classes, and JVM processes that end with us.

Everything works in a gevent-patched and in an unpatched process: whichever ``subprocess`` the process has, children are
only ever polled, with ``gevent.sleep`` between, so that the hub never blocks and no SIGCHLD handler is needed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import gevent

HERE = Path(__file__).parent

#: What RocketMQ needs opened to run on JDK 17.
JDK17_OPTIONS = (
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
)

#: Boot fast and stay small. A benchmark, which wants the optimising compiler, passes its own.
QUICK_OPTIONS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xms128m", "-Xmx512m")

#: Dies with its parent even when the parent is killed, then becomes the JVM. A small program of its own and not a
#: ``preexec_fn``, which would run Python between fork and exec of a process with threads.
LAUNCHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""

MAVEN_TIMEOUT = 600.0
JAVAC_TIMEOUT = 120.0


class Unavailable(Exception):
    """No Java, no Maven, or the jars cannot be had; says which."""


class JavaError(Exception):
    """A JVM did not do what it should; carries the end of its output."""


def wait_until(condition: Callable[[], object], timeout: float, what: str, interval: float = 0.05) -> None:
    """Poll ``condition`` until it is true; ``TimeoutError`` naming ``what`` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        gevent.sleep(interval)


def tail(path: Path, lines: int = 30) -> str:
    """The last lines of a text file, empty if there is none."""
    if not path.is_file():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def tool(name: str) -> str:
    """Path of ``java``, ``javac`` or ``mvn``: from ``JAVA_HOME`` if set, else from ``PATH``."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which(name, path=os.path.join(home, "bin")) if home else None
    found = found or shutil.which(name)
    if found is None:
        raise Unavailable(f"no {name} at hand")
    return found


def run(command: Sequence[str], timeout: float, *, env: Mapping[str, str] | None = None, cwd: Path = HERE) -> tuple[int, str]:
    """Run a command to its end without blocking the hub; returns exit status and output (both streams)."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=env,
            cwd=cwd,
        )
        try:
            wait_until(lambda: process.poll() is not None, timeout, " ".join(command[:3]))
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        return process.returncode, output.read().decode(errors="replace")


def cache_dir() -> Path:
    """Where jars and driver classes are kept: ``$GROCKETMQ_JARS``, default ``~/.cache/grocketmq/jars``."""
    configured = os.environ.get("GROCKETMQ_JARS")
    return Path(configured) if configured else Path.home() / ".cache" / "grocketmq" / "jars"


def jars(version: str) -> Path:
    """Directory with all jars of a RocketMQ release, fetched with Maven when the cache does not have it.

    :raises Unavailable: no ``mvn``, or it could not get the jars (tried twice).
    """
    tool("java")
    return _cached(version, lambda target: _fetch_jars(version, target))


def driver_classes(version: str) -> Path:
    """Directory with ``java/*.java`` compiled against the jars of a release; compiled anew when a source changed."""
    sources = sorted((HERE / "java").glob("*.java"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    classpath = f"{jars(version)}/*"

    def compile_sources(target: Path) -> None:
        options = ["-encoding", "UTF-8", "-nowarn", "-cp", classpath, "-d", str(target)]
        status, output = run([tool("javac"), *options, *map(str, sources)], JAVAC_TIMEOUT)
        if status:
            raise JavaError(f"the driver does not compile against {version}:\n{output}")

    return _cached(f"{version}-driver-{digest}", compile_sources)


def _cached(name: str, fill: Callable[[Path], None]) -> Path:
    """The cache's directory ``name``, filled beside and renamed, so that it is either whole or not there."""
    target = cache_dir() / name
    if target.is_dir():
        return target
    cache_dir().mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache_dir()))
    try:
        fill(scratch)
        try:
            scratch.chmod(0o755)  # mkdtemp's is for the owner alone
            scratch.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _fetch_jars(version: str, target: Path) -> None:
    command = [
        tool("mvn"), "-q", "-B", "-Dstyle.color=never", "-f", str(HERE / "pom.xml"), f"-Drocketmq.version={version}",
        "dependency:copy-dependencies", f"-DoutputDirectory={target}",
    ]  # fmt: skip
    output = ""
    for _ in range(2):
        try:
            status, output = run(command, MAVEN_TIMEOUT)
        except TimeoutError as error:
            status, output = 1, str(error)
        if status == 0 and (target / f"rocketmq-broker-{version}.jar").is_file():
            return
    raise Unavailable(f"Maven could not get the jars of RocketMQ {version}: {output.strip()[:600]}")


class JavaProcess:
    """One running JVM in its own directory, where also its ``user.home``, logs and output are.

    :param main: main class.
    :param arguments: its arguments.
    :param classpath: Java class path.
    :param home: directory of this process; output goes to ``home/output.log``.
    :param options: JVM options.
    :param environment: added to the environment.
    :param stdin: file descriptor for standard input, default none.
    :param stdout: file descriptor for standard output, default ``output.log``.
    """

    def __init__(
        self,
        main: str,
        arguments: Sequence[str],
        *,
        classpath: str,
        home: Path,
        options: Sequence[str] = QUICK_OPTIONS,
        environment: dict[str, str] | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.name = home.name
        self.home = home
        self.output = home / "output.log"
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid())]
        java = [
            tool("java"),
            *JDK17_OPTIONS,
            "-XX:-UsePerfData",
            f"-Duser.home={home}",
            f"-Djava.io.tmpdir={home}",
        ]
        with self.output.open("ab") as output:
            self._output_start = output.tell()
            self._process = subprocess.Popen(
                [*launcher, *java, *options, "-cp", classpath, main, *arguments],
                cwd=home,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=output if stdout is None else stdout,
                stderr=output,
                start_new_session=True,  # Ctrl-C at the terminal is for the tests, which then stop us
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def printed(self, text: str) -> bool:
        """Whether this process (and not an earlier one in the same directory) has written ``text``."""
        with self.output.open("rb") as output:
            output.seek(self._output_start)
            return text.encode() in output.read()

    def kill(self) -> None:
        """``kill -9`` and reap."""
        self.signal(signal.SIGKILL)
        wait_until(lambda: not self.alive, 10.0, f"{self.name} dies of SIGKILL")

    def terminate(self, timeout: float) -> None:
        """Ask to end with SIGTERM; after ``timeout`` seconds kill, and raise ``TimeoutError``."""
        self.signal(signal.SIGTERM)
        try:
            wait_until(lambda: not self.alive, timeout, f"{self.name} ends on SIGTERM")
        except TimeoutError:
            self.kill()
            raise

    def signal(self, number: int) -> None:
        """Send a signal; nothing when the process has ended."""
        if self.alive:
            os.kill(self.pid, number)

    def report(self) -> str:
        """The end of everything this process wrote, for an error message."""
        logs = [self.output, *sorted(self.home.glob("logs/**/*.log"))]
        parts = [f"--- {log.relative_to(self.home)}\n{text}" for log in logs if (text := tail(log))]
        return f"{self.name} (exit status {self._process.poll()})\n" + "\n".join(parts)
