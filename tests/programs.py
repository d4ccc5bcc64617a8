"""Programs run as users run them: in a process of their own, against the cluster that a test gives them."""

import os
import sys
from dataclasses import dataclass

from gevent import subprocess

from tests.meta.source import ROOT

LIMIT = 50.0


@dataclass(frozen=True)
class Finished:
    """What a program left: its exit status, and what it wrote."""

    status: int
    stdout: str
    stderr: str


def run_program(*arguments: str, namesrv: str | None = None, timeout: float = LIMIT) -> Finished:
    """Run this interpreter; other greenlets go on meanwhile, so the cluster may be one of this process.

    :param arguments: the interpreter's.
    :param namesrv: the program's NAMESRV_ADDR; None for none.
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("GROCKETMQ_NAMESRV", "NAMESRV_ADDR")}
    environment["PYTHONPATH"] = str(ROOT)
    if namesrv is not None:
        environment["NAMESRV_ADDR"] = namesrv
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return Finished(process.returncode, stdout, stderr)
