"""The web application that the servers under test run: WSGI, and nothing but the standard library and grocketmq.

===================  ===================================================================
``/send?BODY``       sends and answers with what became of it
``/accept?BODY``     sends asynchronously, and answers long before a broker has
``/who``             the worker's process id and client id
``/copies``          copies of the master's greenlets that live on; no client is used
===================  ===================================================================

Environment: STARTED starts the producer at import (with preloading: in the master); CONSUME has every worker consume the topic
``jobs``, slowly, and tell the topic ``done`` what it begins and what it has ended.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterable
from typing import Any

import gevent

from grocketmq import AutoBatch, ConsumeFromWhere, Message, Producer, PushConsumer
from grocketmq.contrib.gunicorn import start_in_workers
from tests.stacks.topics import DONE, JOBS, TOPIC

producer = Producer("web", send_timeout=10)
#: What it has accepted waits in the worker before it is sent: a worker that just ends loses it.
gathering = Producer("web-gathering", send_timeout=10, auto_batch=AutoBatch(max_delay=0.3))
consumer = PushConsumer("workers", consume_from=ConsumeFromWhere.FIRST_OFFSET, await_termination=10, listener_concurrency=4)
consumer.subscribe(JOBS)


@consumer.listener
def work(msgs: list[Any]) -> None:
    for msg in msgs:
        job = f"{msg.body.decode()} by {os.getpid()}"
        producer.send(Message(DONE, f"began {job}"))
        gevent.sleep(0.05)
        producer.send(Message(DONE, f"ended {job}"))


start_in_workers(producer, gathering)
if os.environ.get("CONSUME"):
    start_in_workers(consumer)
if os.environ.get("STARTED"):
    producer.start()
started_as = producer.client_id


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    body = environ.get("QUERY_STRING", "")
    told: dict[str, Any] = {"body": body, "pid": os.getpid()}
    match environ["PATH_INFO"]:
        case "/send":
            result = producer.send(Message(TOPIC, body))
            told.update(msg_id=result.msg_id, stored=result.offset_msg_id)
        case "/accept":
            gathering.send_async(Message(TOPIC, body))
        case "/copies":
            gevent.sleep(0.01)
            running = [one.name for one in gc.get_objects() if isinstance(one, gevent.Greenlet) and one]
            told["copies"] = [name for name in running if name.startswith(f"{started_as}:")]
    told["client_id"] = producer.client_id
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]
