"""The application with what uWSGI needs: its workers run no at-fork and no atexit hooks of Python."""

import os

import uwsgi  # type: ignore[import-not-found]  # it is only there within uWSGI

from grocketmq import shutdown_all
from tests.stacks.web import application, producer

__all__ = ["application"]

uwsgi.atexit = shutdown_all


def start() -> None:
    producer.start()


if not os.environ.get("STARTED"):
    uwsgi.post_fork_hook = start
