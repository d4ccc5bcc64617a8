"""Users with connections of their own who keep to a timetable, whatever brokers do."""

from __future__ import annotations

from locust import task

from grocketmq.contrib.locust import RocketMQUser, arrivals


class Patient(RocketMQUser):
    topics = ("load_orders",)
    options = {"retries": 0, "send_timeout": 5.0}  # noqa: RUF012
    shared = False
    wait_time = arrivals(20)

    @task
    def order(self):  # type: ignore[no-untyped-def]
        self.send("load_orders", b"x" * 100)
