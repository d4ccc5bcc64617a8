"""Finding stored messages: by where they are stored, by their unique id, by key.

A broker keeps an index of the keys and the unique ids of its messages, made a moment after they are stored.

Source: Apache RocketMQ 5.3.3, module client, class ``MQAdminImpl``.
"""

from __future__ import annotations

from contextlib import suppress

import gevent

from grocketmq.client.api import QUERY_MESSAGE_TIMEOUT
from grocketmq.client.instance import ClientInstance
from grocketmq.codes import ResponseCode
from grocketmq.errors import (
    BrokerSystemError,
    GRocketMQError,
    MessageError,
    QueryNotFoundError,
    RemoteProtocolError,
    RouteNotFoundError,
)
from grocketmq.model.message import MessageExt
from grocketmq.model.message_id import OffsetMessageId, decode_offset_msg_id

__all__ = ["END_OF_TIME", "query_message", "view_message"]

#: The largest time a broker takes, ms since the epoch.
END_OF_TIME = (1 << 63) - 1
#: More messages of one unique id than this there are not: one a try of its send.
_MAX_COPIES = 32


def view_message(instance: ClientInstance, msg_id: str, topic: str | None, timeout: float) -> MessageExt:
    """See :meth:`grocketmq.client.base.BaseClient.view_message`."""
    where = _stored_at(msg_id)
    if topic is None:
        if where is None:
            raise MessageError(f"{msg_id!r:.80} is no offset message id; with a unique id, give the topic too")
        return instance.api.view_message(where.address, where.commit_log_offset, timeout)
    _fetch_route(instance, topic, timeout)
    # A unique id has the form of an offset id, and would name a broker that is none.
    if where is not None and where.address in {address for _, _, address in instance.routes.members()}:
        with suppress(BrokerSystemError):  # no message starts there
            return instance.api.view_message(where.address, where.commit_log_offset, timeout)
    copies = _ask_brokers(instance, topic, msg_id, _MAX_COPIES, 0, END_OF_TIME, unique=True)
    for message in copies:
        if message.msg_id == msg_id:
            return message
    raise QueryNotFoundError(ResponseCode.QUERY_NOT_FOUND, f"no message {msg_id} in topic {topic}", "every broker")


def query_message(
    instance: ClientInstance, topic: str, key: str, max_num: int, begin_ms: int, end_ms: int, timeout: float
) -> list[MessageExt]:
    """See :meth:`grocketmq.client.base.BaseClient.query_message`."""
    if not key or max_num < 1:
        raise MessageError(f"a query needs a key and max_num of at least 1, not {key!r:.80} and {max_num}")
    _fetch_route(instance, topic, timeout)
    found = _ask_brokers(instance, topic, key, max_num, begin_ms, end_ms, unique=False)
    # The index holds hashes: others come along.
    wanted = [message for message in found if message.topic == topic and key in _keys_of(message)]
    return wanted[:max_num]


def _keys_of(message: MessageExt) -> set[str]:
    return {message.msg_id, *(message.keys or "").split(" ")}


def _stored_at(msg_id: str) -> OffsetMessageId | None:
    try:
        return decode_offset_msg_id(msg_id)
    except RemoteProtocolError:
        return None


def _fetch_route(instance: ClientInstance, topic: str, timeout: float) -> None:
    if topic not in instance.routes.routes:
        instance.refresh_route(topic, timeout)


def _ask_brokers(
    instance: ClientInstance, topic: str, key: str, max_num: int, begin_ms: int, end_ms: int, *, unique: bool
) -> list[MessageExt]:
    """What the topic's brokers find, oldest first, each message once; a failure counts only when nothing was found."""
    found: dict[str, MessageExt] = {}
    failures: list[GRocketMQError] = []

    def ask(address: str, broker_name: str) -> None:
        try:
            answer = instance.api.query_message(
                address, broker_name, topic, key, max_num, begin_ms, end_ms, unique=unique, timeout=QUERY_MESSAGE_TIMEOUT
            )
            found.update({message.offset_msg_id: message for message in answer})
        except QueryNotFoundError:
            pass  # which is an answer, unlike what follows
        except GRocketMQError as error:
            failures.append(error)

    brokers = instance.routes.routes[topic].broker_datas
    addresses = {data.broker_name: address for data in brokers if (address := data.any_address)}
    if not addresses:
        raise RouteNotFoundError(topic, "it has no broker at present")
    calls = [instance.tasks.spawn(f"query {address}", ask, address, name) for name, address in addresses.items()]
    try:
        gevent.joinall(calls)  # each ends by its own timeout; a bound of the same length here would end it untold
    finally:
        gevent.killall(calls, block=False)
    if failures and not found:
        raise failures[0]
    return sorted(found.values(), key=lambda message: (message.store_timestamp, message.commit_log_offset))
