"""Where the command ``grocketmq`` begins; it looks for its extra before anything imports it."""

from __future__ import annotations

import sys

__all__ = ["main"]

_EXTRA = ("click", "rich")


def main() -> None:
    """Run the command line; ends the process with the command's exit status."""
    try:
        from grocketmq.cli.commands import grocketmq
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        sys.exit(f"grocketmq: the command line needs {missing}; install it with: pip install 'grocketmq[cli]'")
    grocketmq(prog_name="grocketmq")
