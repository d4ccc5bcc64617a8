"""A Locust load test: users send orders and wait until a consumer has them.

Run it against a cluster:          locust -f examples/locust/locustfile.py --host 127.0.0.1:9876
Without one, in another terminal:  grocketmq serve
"""

from locust import constant_throughput, task

from grocketmq.contrib.locust import RocketMQUser


class Shop(RocketMQUser):
    """Once a second: an order, sent, stored and consumed."""

    topics = ("load_orders",)
    wait_time = constant_throughput(1)

    @task(9)
    def order(self):
        self.send("load_orders", b"x" * 1024, tags="created")

    @task(1)
    def order_and_wait(self):
        key = self.send("load_orders", b"x" * 1024, tags="created")
        self.expect("load_orders", key, timeout=10)
