"""Gives a message back to the brokers, to be delivered again later.

Source: Apache RocketMQ 5.3.3, module client, classes ``DefaultMQPushConsumerImpl`` (``sendMessageBack``),
``MQClientAPIImpl`` (``consumerSendMessageBack``).
"""

from __future__ import annotations

import logging
import random
from time import time_ns

from grocketmq.client.instance import ClientInstance
from grocketmq.client.packing import pack
from grocketmq.codes import RequestCode
from grocketmq.errors import GRocketMQError
from grocketmq.model.message import MessageExt
from grocketmq.model.namespace import DEFAULT_TOPIC, retry_topic
from grocketmq.model.properties import Property, encode_properties
from grocketmq.runtime.deadline import Deadline
from grocketmq.wire.flags import CompressionType, MessageSysFlag
from grocketmq.wire.send_command import SendTemplate, send_fields

__all__ = ["SendBack"]

log = logging.getLogger(__name__)

#: The delay level of a first retry where the client chooses it: 10 s.
FIRST_RETRY_LEVEL = 3
_RESEND_TIMEOUT = 5.0
_PACK_FROM_BYTES = 4096


class SendBack:
    """Sends messages of one group back.

    :param group: the consumer group.
    :param instance: its instance.
    :param max_reconsume_times: how often a message is delivered again before it goes to the dead letters.
    """

    def __init__(self, group: str, instance: ClientInstance, max_reconsume_times: int) -> None:
        self._group = group
        self._instance = instance
        self._max_reconsume_times = max_reconsume_times

    def try_send(self, message: MessageExt, delay_level: int) -> bool:
        """Send a message back; blocks at most 5 s a try.

        The broker that holds it is asked first.  If that fails, the message is sent to the group's retry topic as a new one, by
        any broker.

        :param message: what was not consumed.
        :param delay_level: 0 grows with each time, -1 goes to the dead letters, 1 to 18 are levels.
        :returns: whether some broker took it.
        """
        try:
            self.send(message, delay_level)
            return True
        except GRocketMQError as error:
            log.warning("%s could not be sent to the retry topic: %s", message, error)
            return False

    def send(self, message: MessageExt, delay_level: int) -> None:
        """As :meth:`try_send`, and raises when no broker took it.

        :raises GRocketMQError: why it could not even be sent anew.
        """
        try:
            address = self._instance.routes.master(message.broker_name) or message.store_host
            self._instance.api.send_back(address, message, self._group, delay_level, self._max_reconsume_times)
        except GRocketMQError as error:
            log.info("%s not sent back, so it is sent anew: %s", message, error)
            self._send_anew(message)

    def try_send_anew(self, message: MessageExt) -> bool:
        """Send a message to the group's retry topic as a new one; blocks at most 5 s.

        The broker delivers it again after a delay, or puts it to the dead letters when it was there often enough.

        :param message: what was not consumed.
        :returns: whether some broker took it.
        """
        try:
            self._send_anew(message)
            return True
        except GRocketMQError as error:
            log.warning("%s could not be sent to the retry topic: %s", message, error)
            return False

    def _send_anew(self, message: MessageExt) -> None:
        topic = retry_topic(self._group)
        deadline = Deadline(_RESEND_TIMEOUT)
        queue = random.choice(self._instance.publish_info(topic, 1, deadline).queues)
        address = self._instance.master_address(queue, deadline)
        body, sys_flag = message.body, 0
        if len(body) >= _PACK_FROM_BYTES:
            body, sys_flag = pack(CompressionType.ZLIB, body), MessageSysFlag.COMPRESSED | CompressionType.ZLIB.sys_flag
        most = self._max_reconsume_times
        fields = send_fields(
            self._group, topic, queue.broker_name, default_topic=DEFAULT_TOPIC, queue_nums=1, max_reconsume_times=most
        )
        command = SendTemplate(RequestCode.SEND_MESSAGE_V2, fields).command(
            queue.queue_id,
            sys_flag,
            time_ns() // 1_000_000,
            message.flag,
            encode_properties(self._retry_properties(message)),
            message.reconsume_times + 1,
            body,
        )
        self._instance.api.send(address, command, queue, message.msg_id, deadline)

    def _retry_properties(self, message: MessageExt) -> dict[str, str]:
        properties = dict(message.properties)
        for name in (Property.TRANSACTION_PREPARED, Property.MIN_OFFSET, Property.MAX_OFFSET):
            properties.pop(name, None)
        properties[Property.RETRY_TOPIC] = message.topic
        properties.setdefault(Property.ORIGIN_MESSAGE_ID, message.msg_id)
        properties[Property.DELAY_TIME_LEVEL] = str(FIRST_RETRY_LEVEL + message.reconsume_times)
        return properties
