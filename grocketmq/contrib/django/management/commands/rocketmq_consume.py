"""``manage.py rocketmq_consume``: runs consumers until it is told to stop."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import import_string
from gevent.event import Event

from grocketmq import GRocketMQError, shutdown_at_exit
from grocketmq.contrib.django import setting

__all__ = ["Command"]


class Command(BaseCommand):
    """The command."""

    help = "Runs RocketMQ consumers until TERM or Ctrl-C; then they finish what they hold."

    def add_arguments(self, parser: Any) -> None:
        """Dotted paths, by default those of the settings."""
        parser.add_argument("consumers", nargs="*", help="dotted paths; default: settings.ROCKETMQ['consumers']")

    def handle(self, *args: Any, **options: Any) -> None:
        """Start them, wait for a signal."""
        paths = options["consumers"] or setting("consumers", [])
        if not paths:
            raise CommandError("no consumer: name some, or list them in settings.ROCKETMQ['consumers']")
        shutdown_at_exit()
        for path in paths:
            consumer = import_string(path)
            try:
                consumer.start()
            except GRocketMQError as error:
                raise CommandError(f"{path} does not start: {error}") from error
            self.stdout.write(f"{path} runs as {consumer!r}")
        self.stdout.flush()
        try:
            Event().wait()
        except KeyboardInterrupt:
            self.stdout.write("stopping")
