"""A Flask extension: one producer for the application, from its configuration.

::

    app = Flask(__name__)
    app.config["ROCKETMQ_NAMESRV"] = "10.0.0.1:9876"
    rocketmq = RocketMQ(app)             # or rocketmq.init_app(app) in a factory

    @app.post("/orders")
    def order():
        return rocketmq.producer.send(Message("orders", request.data)).msg_id

====================  ==========================================================================
configuration         meaning
====================  ==========================================================================
``ROCKETMQ_NAMESRV``  the name servers; default: the environment, as for every client
``ROCKETMQ_GROUP``    the producer's group; default: the application's name
``ROCKETMQ_OPTIONS``  further options of the producer, a dict
====================  ==========================================================================

It works with whatever serves the application: gevent workers of gunicorn (use the hooks of :mod:`grocketmq.contrib.gunicorn`),
threaded and forking servers, the development server.
"""

from __future__ import annotations

import re

from flask import Flask, current_app

from grocketmq import Producer
from grocketmq.contrib.web import WebProducer

__all__ = ["RocketMQ"]

_EXTENSION = "rocketmq"


class RocketMQ:
    """The extension.

    :param app: the application; None when :meth:`init_app` follows.
    """

    def __init__(self, app: Flask | None = None) -> None:
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Make the application's producer; connects to nothing.

        :param app: the application, configured.
        :raises ConfigError: for a configuration that cannot work.
        """
        options = dict(app.config.get("ROCKETMQ_OPTIONS", {}))
        if "ROCKETMQ_NAMESRV" in app.config:
            options["namesrv"] = app.config["ROCKETMQ_NAMESRV"]
        group = app.config.get("ROCKETMQ_GROUP") or re.sub(r"[^\w-]", "_", app.name)
        app.extensions[_EXTENSION] = WebProducer(group, options)

    @property
    def producer(self) -> Producer:
        """The producer of the application that handles the current request; started with its first use in each process."""
        web: WebProducer = current_app.extensions[_EXTENSION]
        return web.get()
