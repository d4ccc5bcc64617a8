"""Run a pytest command; what failed is run once more, alone.

Usage: python tests/twice.py python -m pytest ...

Many of these tests start processes and wait for them.  On a machine that has other things to do at the same moment one
may run out of time, which is no fault of the library; such a test passes alone.  A fault fails twice.
"""

from __future__ import annotations

import subprocess
import sys

TESTS_FAILED = 1


def main(command: list[str]) -> int:
    # What failed in an earlier run is forgotten, so that a run which breaks off without a result is no success.
    status = subprocess.call([*command, "--cache-clear"])
    if status == TESTS_FAILED:
        print("\nWhat failed is run once more, alone:\n", flush=True)
        status = subprocess.call([*command, "--last-failed", "--last-failed-no-failures=none"])
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
