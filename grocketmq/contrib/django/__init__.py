"""A Django application: one producer from the settings, and a command that runs consumers.

``settings.py``::

    INSTALLED_APPS = [..., "grocketmq.contrib.django"]
    ROCKETMQ = {
        "namesrv": "10.0.0.1:9876",
        "group": "shop",                                # the producer's group
        "options": {"send_timeout": 5.0},               # further options of the producer
        "consumers": ["shop.consumers.mail"],           # for "manage.py rocketmq_consume"
    }

In views: ``producer().send(Message("orders", b"..."))``.  ``shop/consumers.py`` makes consumers, and does not start them::

    mail = consumer(PushConsumer, "shop-mail")
    mail.subscribe("mail")

    @mail.listener
    @fresh_connections
    def on_mail(msgs): ...
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from grocketmq.client.base import BaseClient
from grocketmq.contrib.web import WebProducer
from grocketmq.errors import ConfigError
from grocketmq.producer import Producer

__all__ = ["consumer", "fresh_connections", "producer", "setting"]

C = TypeVar("C", bound=BaseClient)

_web: WebProducer | None = None


def setting(name: str, default: Any = None) -> Any:
    """One of the settings in ``ROCKETMQ``.

    :raises ConfigError: when there is no such dict.
    """
    from django.conf import settings

    found = getattr(settings, "ROCKETMQ", None)
    if not isinstance(found, dict):
        raise ConfigError('settings have no dict ROCKETMQ, such as {"namesrv": "host:port"}')
    return found.get(name, default)


def _common() -> dict[str, Any]:
    namesrv = setting("namesrv")
    return {} if namesrv is None else {"namesrv": namesrv}


def producer() -> Producer:
    """The producer; started with its first use in each process, which blocks that caller."""
    global _web
    if _web is None:
        _web = WebProducer(setting("group", "django"), {**_common(), **setting("options", {})})
    return _web.get()


def consumer(kind: type[C], group: str, **options: Any) -> C:
    """Make a consumer with the name servers of the settings; connects to nothing.

    :param kind: the class, such as ``PushConsumer``.
    :param group: its group.
    :param options: its options.
    """
    return kind(group, **{**_common(), **options})


def fresh_connections(listener: Callable[..., object]) -> Callable[..., object]:
    """Decorator for listeners that use the database: as around a request, a connection that broke or is too old is made anew.

    :param listener: the listener.
    """
    from django.db import close_old_connections

    @functools.wraps(listener)
    def call(*args: Any) -> object:
        close_old_connections()
        try:
            return listener(*args)
        finally:
            close_old_connections()

    return call
