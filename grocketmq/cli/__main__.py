"""``python -m grocketmq.cli``: the same as the command ``grocketmq``."""

from __future__ import annotations

from grocketmq.cli.main import main

main()
