"""A Celery application whose tasks send, as a project would write it; the queue is a directory."""

import os

import gevent
from celery import Celery
from celery.signals import worker_init, worker_shutdown

from grocketmq import Message, Producer, shutdown_all
from tests.stacks.topics import TOPIC

directory = os.environ["CELERY_DIRECTORY"]
app = Celery("tests.stacks.celery_app", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": f"{directory}/queue",
    "data_folder_out": f"{directory}/queue",
    "processed_folder": f"{directory}/processed",
    "control_folder": f"{directory}/control",
}
producer = Producer("tasks")


@worker_init.connect
def start(**kwargs: object) -> None:
    producer.start()


@worker_shutdown.connect
def stop(**kwargs: object) -> None:
    shutdown_all()


@app.task
def send(body: str) -> None:
    gevent.sleep(0.05)
    producer.send_async(Message(TOPIC, body))
    if body == "last":
        os.kill(os.getpid(), 15)
