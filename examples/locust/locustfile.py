"""A Locust load test: users send orders, wait until a consumer has them, and ask for prices.

Run it against a cluster:          locust -f examples/locust/locustfile.py --host 127.0.0.1:9876
Without one, in another terminal:  grocketmq serve

It makes the topics it needs, and answers the users' questions itself: in a real test the service under load would.
"""

import gevent
from locust import events, task
from locust.runners import WorkerRunner

from grocketmq import ConsumeFromWhere, Producer, PushConsumer, create_reply
from grocketmq.contrib.locust import RocketMQUser, arrivals

ORDERS, QUESTIONS = "load_orders", "load_questions"


class Shop(RocketMQUser):
    """Once a second, however long the last one took: an order, sent, stored and maybe waited for, or a question."""

    topics = (ORDERS,)
    wait_time = arrivals(1)

    @classmethod
    def handle(cls, msg):
        """What a consumer does with an order."""
        gevent.sleep(0.002)

    @task(8)
    def order(self):
        self.send(ORDERS, b"x" * 1024, tags="created")

    @task(1)
    def order_and_wait(self):
        key = self.send(ORDERS, b"x" * 1024, tags="created")
        self.expect(ORDERS, key, timeout=10)

    @task(1)
    def ask(self):
        self.request(QUESTIONS, b"apple", timeout=10)


@events.init.add_listener
def serve(environment, **kwargs):
    """Before users start: topics, and somebody who answers; of several processes in the master, which outlives its workers."""
    if isinstance(environment.runner, WorkerRunner):
        return
    producer = Producer("load_repliers", namesrv=environment.host)
    consumer = PushConsumer("load_repliers", namesrv=environment.host, consume_from=ConsumeFromWhere.FIRST_OFFSET)
    consumer.subscribe(QUESTIONS)

    @consumer.listener
    def answer(msgs):
        for msg in msgs:
            producer.send(create_reply(msg, b"0.30"))

    @environment.events.quit.add_listener
    def stop(**kwargs):
        consumer.shutdown()
        producer.shutdown()

    producer.start()
    for topic in (ORDERS, QUESTIONS):
        producer.create_topic(topic)
    consumer.start()
