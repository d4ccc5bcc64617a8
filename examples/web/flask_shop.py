"""A shop with Flask: each order that comes in over HTTP is sent as a message.

The name server is in the environment variable NAMESRV_ADDR.

Development:  flask --app examples/web/flask_shop.py run -p 8000
Production:   gunicorn -c examples/web/gunicorn.conf.py --chdir examples/web 'flask_shop:create_app()'
Use it:       curl -d 'one apple' localhost:8000/orders
"""

import os

from flask import Flask, jsonify, request

from grocketmq import Message
from grocketmq.contrib.flask import RocketMQ

rocketmq = RocketMQ()


def create_app():
    app = Flask("shop")
    app.config["ROCKETMQ_NAMESRV"] = os.environ["NAMESRV_ADDR"]
    app.config["ROCKETMQ_OPTIONS"] = {"send_timeout": 10.0}
    rocketmq.init_app(app)

    @app.post("/orders")
    def order():
        body = request.get_data(as_text=True)
        result = rocketmq.producer.send(Message("shop_orders", body))
        return jsonify(body=body, msg_id=result.msg_id, stored=result.offset_msg_id, worker=os.getpid())

    @app.get("/")
    def welcome():
        return "Welcome to the shop!"

    return app
