"""Importing grocketmq does nothing but define names: a master process may import it and then fork."""

import subprocess
import sys

from tests.meta.source import ROOT, modules, within

#: Parts that belong to programs and may want their own extras; the rest is imported by applications.
PROGRAMS = ("grocketmq.cli", "grocketmq.contrib", "grocketmq.compat", "grocketmq.testing", "grocketmq.__main__")
PATCH = "from gevent import monkey; monkey.patch_all()"

CHECK = """
import gc, os, sys, types

def sockets():
    return [
        fd for fd in os.listdir("/proc/self/fd")
        if os.path.islink("/proc/self/fd/" + fd) and os.readlink("/proc/self/fd/" + fd).startswith("socket:")
    ]

before = sockets() if os.path.isdir("/proc/self/fd") else []
{imports}
after = sockets() if os.path.isdir("/proc/self/fd") else []
assert after == before, "a socket was made"
assert "ssl" not in sys.modules, "ssl was imported"

import _thread
assert _thread._count() == 0, "a thread was started"

from gevent._hub_local import get_hub_if_exists
assert get_hub_if_exists() is None, "a hub was made"

import threading
from gevent import event, local, lock, queue
kinds = (
    type(_thread.allocate_lock()), type(_thread.RLock()), threading.Event, threading.Condition,
    threading.Semaphore, threading.local, event.Event, event.AsyncResult, lock.Semaphore, lock.RLock,
    lock.DummySemaphore, local.local, queue.Queue, queue.SimpleQueue,
)

def ours(thing):
    return getattr(type(thing), "__module__", "").partition(".")[0] == "grocketmq"

def look(path, thing, depth=0):
    assert not isinstance(thing, kinds), f"{{path}} is made at import: {{thing!r}}"
    if depth > 3:
        return
    if isinstance(thing, type):
        members = vars(thing) if thing.__module__.startswith("grocketmq") else {{}}
    elif isinstance(thing, dict):
        members = thing
    elif isinstance(thing, (list, tuple, set, frozenset)):
        members = dict(enumerate(thing))
    else:
        members = getattr(thing, "__dict__", {{}}) if ours(thing) else {{}}
    for name, member in list(members.items()):
        look(f"{{path}}.{{name}}", member, depth + 1)

for name, module in list(sys.modules.items()):
    if name.partition(".")[0] == "grocketmq":
        for key, value in list(vars(module).items()):
            if not key.startswith("__") and not isinstance(value, types.ModuleType):
                look(f"{{name}}.{{key}}", value)
"""


def run(code: str) -> None:
    """Run code in a fresh interpreter in which each warning is an error."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def library() -> list[str]:
    return [name for name in modules() if not any(within(name, program) for program in PROGRAMS)]


def import_all() -> str:
    return "\n".join(f"import {name}" for name in library())


def test_import_makes_nothing() -> None:
    run(CHECK.format(imports=import_all()))


def test_import_after_patching() -> None:
    run(f"{PATCH}\n{import_all()}")


def test_import_before_patching() -> None:
    run(f"{import_all()}\n{PATCH}")


# Forks, as starting an interpreter for each takes too long.
FIRST = """
import importlib, os, sys
import gevent, mmh3
failed = []
for name in {names!r}:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            importlib.import_module(name)
            status = 0
        except Exception as error:
            print(f"{{name}}: {{error!r}}", file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    if os.waitpid(pid, 0)[1] != 0:
        failed.append(name)
sys.exit(bool(failed))
"""


def test_each_part_can_be_the_first() -> None:
    parts = {".".join(name.split(".")[:2]) for name in library()}
    run(FIRST.format(names=sorted(parts)))
