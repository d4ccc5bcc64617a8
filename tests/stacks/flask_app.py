"""A Flask application with a factory, as a project would have it."""

import os

from flask import Flask, jsonify, request

from grocketmq import Message
from grocketmq.contrib.flask import RocketMQ
from tests.stacks.topics import TOPIC

rocketmq = RocketMQ()


def create_app():  # type: ignore[no-untyped-def]
    app = Flask("shop.web")
    app.config["ROCKETMQ_NAMESRV"] = os.environ["NAMESRV_ADDR"]
    app.config["ROCKETMQ_OPTIONS"] = {"send_timeout": 10}
    rocketmq.init_app(app)

    @app.get("/send")
    def send():  # type: ignore[no-untyped-def]
        body = request.query_string.decode()
        result = rocketmq.producer.send(Message(TOPIC, body))
        return jsonify(body=body, msg_id=result.msg_id, stored=result.offset_msg_id, pid=os.getpid())

    @app.get("/who")
    def who():  # type: ignore[no-untyped-def]
        return str(os.getpid())

    return app
