"""One side of one scenario in a process of its own: ``python -m bench.worker SIDE JOB``, JOB as JSON.

Says ``ready``, then runs a round for every line it reads and answers with the round as JSON; ends with its input.
With ``BENCH_PROFILE`` in the environment it tells in the end where its processor time went.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from importlib import import_module

from gevent.fileobject import FileObject

from bench.sampler import Sampler
from bench.scenarios import Job


def main(side: str, job_text: str) -> None:
    """Serve rounds; other greenlets run while it waits for the next one."""
    job = Job(**json.loads(job_text))
    # Only what this side needs is imported, so that memory is its own.
    sides = import_module(f"bench.{side}").SIDES
    commands = FileObject(os.dup(sys.stdin.fileno()), "rb")
    profile: AbstractContextManager[object] = Sampler(f"{side}, {job}") if os.environ.get("BENCH_PROFILE") else nullcontext()
    with sides[job.kind](job) as run, profile:
        print("ready", flush=True)
        for _ in commands:
            print(json.dumps(asdict(run())), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
