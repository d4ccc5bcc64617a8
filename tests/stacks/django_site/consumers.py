"""What ``manage.py rocketmq_consume`` runs."""

from typing import Any

from grocketmq import ConsumeFromWhere, Message, PushConsumer
from grocketmq.contrib.django import consumer, fresh_connections, producer
from tests.stacks.topics import DONE, JOBS

jobs = consumer(PushConsumer, "site-jobs", consume_from=ConsumeFromWhere.FIRST_OFFSET)
jobs.subscribe(JOBS)


@jobs.listener
@fresh_connections
def work(msgs: list[Any]) -> None:
    for msg in msgs:
        producer().send(Message(DONE, msg.body))
