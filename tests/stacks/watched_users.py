"""Users whose messages are followed to the end, by workers that share them out or by one process."""

from __future__ import annotations

import os
from itertools import count

from locust import constant_throughput, events, task

from grocketmq.contrib.locust import RocketMQUser, report

#: Messages that were handled, of all users.
handled = count(1)


@events.quitting.add_listener
def judge(environment, **kwargs):  # type: ignore[no-untyped-def]
    found = report(environment)
    if found is not None and found.account.lost:
        environment.process_exit_code = 3


class Watched(RocketMQUser):
    topics = ("load_orders",)
    options = {"try_timeout": 1.5}  # noqa: RUF012
    one_group = "ONE_GROUP" in os.environ
    wait_time = constant_throughput(10)

    @classmethod
    def handle(cls, msg):  # type: ignore[no-untyped-def]
        if next(handled) == 20:
            raise ValueError("on purpose")

    @task
    def order(self):  # type: ignore[no-untyped-def]
        self.send("load_orders", b"x" * 100)
