"""Many users, each of whom does little: what one process holds is the question, not what a cluster bears."""

from locust import constant_throughput, task

from grocketmq.contrib.locust import RocketMQUser


class Many(RocketMQUser):
    topics = ("load_orders",)
    options = {"send_timeout": 10.0}  # noqa: RUF012
    wait_time = constant_throughput(0.1)

    @task
    def order(self):  # type: ignore[no-untyped-def]
        key = self.send("load_orders", b"x" * 1024)
        self.expect("load_orders", key, timeout=20)
