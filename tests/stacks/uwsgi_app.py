"""The application with what uWSGI needs: its workers run no at-fork and no atexit hooks of Python."""

import os

import uwsgi  # type: ignore[import-not-found]  # it is only there within uWSGI

from grocketmq import shutdown_all
from tests.stacks.web import application, consumer, gathering, producer

__all__ = ["application"]

uwsgi.atexit = shutdown_all


def start() -> None:
    if not os.environ.get("STARTED") and not os.environ.get("IDLE"):
        producer.start()
        gathering.start()
    if os.environ.get("CONSUME"):
        consumer.start()


uwsgi.post_fork_hook = start
