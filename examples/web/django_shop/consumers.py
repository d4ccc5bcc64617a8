"""What ``manage.py rocketmq_consume`` runs."""

from grocketmq import ConsumeFromWhere, Message, PushConsumer
from grocketmq.contrib.django import consumer, fresh_connections, producer

orders = consumer(PushConsumer, "shop-orders", consume_from=ConsumeFromWhere.FIRST_OFFSET)
orders.subscribe("shop_orders")


@orders.listener
@fresh_connections
def confirm(msgs):
    for msg in msgs:
        producer().send(Message("shop_confirmations", msg.body))
