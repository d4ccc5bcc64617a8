"""Users for whom nothing goes well."""

from locust import constant_throughput, task

from grocketmq import SendStatus
from grocketmq.contrib.locust import RocketMQUser


class Unlucky(RocketMQUser):
    topics = ("load_orders",)
    wait_time = constant_throughput(2)

    @task
    def refused(self):  # type: ignore[no-untyped-def]
        self.send("load_orders", b"x" * (5 << 20))
        print("went on")

    @task
    def lost(self):  # type: ignore[no-untyped-def]
        self.expect("load_orders", f"key-{id(object())}", timeout=0.05)
        print("went on")

    @task
    def ignored(self):  # type: ignore[no-untyped-def]
        self.request("load_orders", "anybody?", timeout=0.3)
        print("went on")


class Fussy(RocketMQUser):
    good_statuses = frozenset(SendStatus) - {SendStatus.SEND_OK}
    wait_time = constant_throughput(2)
    shared = False

    @task
    def frowned_upon(self):  # type: ignore[no-untyped-def]
        self.send("load_orders", b"x")
