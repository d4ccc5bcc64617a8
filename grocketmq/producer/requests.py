"""Messages that wait for a reply.

::

    requester                    broker                       replier
       |-- message, correlation id -> |  stored as any other     |
       |                              | ------ to a listener --> |
       |                              | <- reply, the same id -- |  to a topic of the cluster
       |<- reply is pushed ---------- |                          |

The reply comes over the connection of a heartbeat, so every broker it may go through must know this client beforehand.

Source: Apache RocketMQ 5.3.3, module client, classes ``DefaultMQProducerImpl``, ``RequestResponseFuture``, ``MessageUtil``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

from gevent.event import AsyncResult

from grocketmq.client.instance import ClientInstance
from grocketmq.errors import ClientStateError, GRocketMQError, MessageError, RequestReplyTimeout, RouteNotFoundError
from grocketmq.model.message import Message, MessageExt
from grocketmq.model.namespace import reply_topic
from grocketmq.model.properties import Property
from grocketmq.producer.outgoing import REPLY
from grocketmq.runtime.deadline import Deadline

__all__ = ["Requests", "create_reply"]

#: What a reply takes over from its request.
_TAKEN_OVER = (Property.CORRELATION_ID, Property.REPLY_TO_CLIENT, Property.TTL)


def create_reply(request_msg: Message, body: bytes | str) -> Message:
    """The reply to a request, to be sent by any producer that is connected to the same cluster; never blocks.

    ::

        def on_messages(msgs):
            for msg in msgs:
                producer.send(create_reply(msg, b"the answer"))

    :param request_msg: the request, as a consumer got it.
    :param body: the reply's payload; not empty.
    :returns: the reply; what else it is given travels too.
    :raises MessageError: for a message that asks for no reply.
    """
    if not isinstance(request_msg, Message):
        raise MessageError(f"a reply is made from the request as it was consumed, not from {request_msg!r:.80}")
    properties = request_msg.properties
    cluster = properties.get(Property.CLUSTER)
    missing = [name for name in (Property.CLUSTER, *_TAKEN_OVER[:2]) if not properties.get(name)]
    if cluster is None or missing:
        raise MessageError(f"{request_msg!r} asks for no reply: it has no {', '.join(missing)}")
    reply = Message(reply_topic(cluster), body)
    reply.properties[Property.MESSAGE_TYPE] = REPLY
    reply.properties.update({name: properties[name] for name in _TAKEN_OVER if name in properties})
    return reply


class Requests:
    """The requests of one producer.

    :param instance: its instance.
    :param find_route: has the instance know the route of a topic.
    :param keep: has the instance keep the route of a topic.
    """

    def __init__(
        self, instance: ClientInstance, find_route: Callable[[str, Deadline], object], keep: Callable[[str], None]
    ) -> None:
        self._instance = instance
        self._find_route = find_route
        self._keep = keep
        self._waiting: set[AsyncResult] = set()

    def ask(self, send: Callable[[dict[str, str]], object], msg: Message, deadline: Deadline) -> MessageExt:
        """Send a request and wait for its reply; blocks at most until the deadline.

        :param send: sends it with these properties; calls :meth:`prepare` first.
        :param msg: the message.
        :raises RequestReplyTimeout: no reply in time.
        """
        instance = self._instance
        correlation_id = str(uuid4())
        reply = instance.replies.expect(correlation_id)
        self._waiting.add(reply)
        try:
            try:
                send(
                    {
                        Property.CORRELATION_ID: correlation_id,
                        Property.REPLY_TO_CLIENT: instance.client_id,
                        Property.TTL: str(max(1, round(deadline.remaining() * 1000))),
                    }
                )
            except GRocketMQError:
                if not reply.ready():  # else the request was stored, and only the answer to that was lost
                    raise
            reply.wait(deadline.remaining())
            if not reply.ready():
                msg_id = msg.properties.get(Property.UNIQ_KEY)
                raise RequestReplyTimeout(
                    f"no reply to {msg_id} of topic {msg.topic} in time; "
                    "does a consumer of the topic run, and send what create_reply() makes?"
                )
            found: MessageExt = reply.get()
            return found
        finally:
            self._waiting.discard(reply)
            instance.replies.forget(correlation_id)

    def prepare(self, topic: str, deadline: Deadline) -> None:
        """Have all brokers that the reply may come through know this client; blocks at most until the deadline."""
        instance = self._instance
        self._find_route(topic, deadline)
        for cluster in {data.cluster for data in instance.routes.routes[topic].broker_datas}:
            replies = reply_topic(cluster)
            self._keep(replies)
            if replies not in instance.routes.routes:
                with suppress(RouteNotFoundError):  # brokers before 4.6: there will be no reply
                    instance.refresh_route(replies, deadline.check(f"find the route of {replies}"))
        instance.heartbeats.introduce(deadline)

    def close(self) -> None:
        """Wait for no reply any more: who does gets an error.  Never blocks."""
        for reply in self._waiting:
            if not reply.ready():
                reply.set_exception(ClientStateError("the producer was shut down before the reply came"))
