"""One short method for each request a client makes: build the header, call, read the answer or raise.

No policy lives here: no retry, no choice of a broker, no state.

Source: Apache RocketMQ 5.3.3, module client, class ``MQClientAPIImpl``; the timeouts are those of its callers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from grocketmq.client.namespace import Namespace
from grocketmq.client.namesrv import NameServers
from grocketmq.client.packing import unpack
from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.errors import QueryNotFoundError, RouteNotFoundError, broker_error
from grocketmq.model.message import MessageExt
from grocketmq.model.results import PullStatus, SendResult
from grocketmq.model.route import MessageQueue, TopicRouteData
from grocketmq.model.subscription import SubscriptionData
from grocketmq.remoting.client import RemotingClient
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.pool import in_pool
from grocketmq.wire import bodies, headers
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.headers.base import CommandHeader
from grocketmq.wire.message_codec import decode_messages
from grocketmq.wire.pull_command import PullFields, read_pull_answer
from grocketmq.wire.request_template import PreparedCommand
from grocketmq.wire.send_command import read_send_answer

__all__ = ["ClientAPI", "PullAnswer"]

#: Seconds for the calls that users do not give a time for.
ROUTE_TIMEOUT = 3.0
HEARTBEAT_TIMEOUT = 3.0
OFFSET_TIMEOUT = 5.0
OFFSET_QUERY_TIMEOUT = 6.0
QUERY_MESSAGE_TIMEOUT = 18.0
SEND_BACK_TIMEOUT = 5.0
LOCK_TIMEOUT = 1.0
CREATE_TOPIC_TIMEOUT = 5.0
#: A route of a hundred brokers or more is read in the hub's thread pool, so that it does not hold the event loop.
_LARGE_ROUTE_BYTES = 20_000

_PULLED = {
    ResponseCode.SUCCESS: PullStatus.FOUND,
    ResponseCode.PULL_NOT_FOUND: PullStatus.NO_NEW_MSG,
    ResponseCode.PULL_RETRY_IMMEDIATELY: PullStatus.NO_MATCHED_MSG,
    ResponseCode.PULL_OFFSET_MOVED: PullStatus.OFFSET_ILLEGAL,
}


class PullAnswer(NamedTuple):
    """A broker's answer to a pull, its messages still as bytes.

    :param status: what was found.
    :param fields: where to go on, and the queue's bounds.
    :param body: the stored messages, one after the other.
    """

    status: PullStatus
    fields: PullFields
    body: bytes


class ClientAPI:
    """The requests.  Every method blocks its greenlet at most for its timeout, and raises

    * :class:`~grocketmq.errors.RemotingError` when there is no answer,
    * :class:`~grocketmq.errors.BrokerError` when the answer is an error code,
    * :class:`~grocketmq.errors.RemoteProtocolError` when the answer cannot be read.

    :param remoting: makes the calls.
    :param namesrv: the name servers.
    :param namespace: taken off the messages that come; None for none.
    """

    def __init__(self, remoting: RemotingClient, namesrv: NameServers, namespace: Namespace | None = None) -> None:
        self._remoting = remoting
        self._namespace = namespace
        self._namesrv = namesrv

    # -- name server ---------------------------------------------------------------------------------------------------------

    def topic_route(self, topic: str, timeout: float = ROUTE_TIMEOUT) -> TopicRouteData:
        """A topic's route.

        :raises RouteNotFoundError: when the name server does not know the topic.
        """
        header = headers.GetRouteInfoRequestHeader(topic=topic, accept_standard_json_only=True)
        answer, address = self._namesrv.invoke(RemotingCommand(header.CODE, ext_fields=header.to_ext()), timeout)
        if answer.code == ResponseCode.TOPIC_NOT_EXIST:
            raise RouteNotFoundError(topic)
        body = _body(answer, address)
        return bodies.TOPIC_ROUTE.decode(body) if len(body) < _LARGE_ROUTE_BYTES else in_pool(bodies.TOPIC_ROUTE.decode, body)

    def topic_list(self, timeout: float = ROUTE_TIMEOUT) -> list[str]:
        """The names of all topics the name server knows."""
        request = RemotingCommand(RequestCode.GET_ALL_TOPIC_LIST_FROM_NAMESERVER)
        answer, address = self._namesrv.invoke(request, timeout)
        return list(bodies.TOPIC_LIST.decode(_body(answer, address)).topic_list)

    # -- clients and groups --------------------------------------------------------------------------------------------------

    def heartbeat(self, address: str, body: bytes, timeout: float = HEARTBEAT_TIMEOUT) -> int:
        """Tell a broker which groups live here.

        :param body: the encoded heartbeat.
        :returns: the broker's ``MQVersion`` ordinal.
        """
        return self._call(address, headers.HeartbeatRequestHeader(), timeout, body).version

    def unregister(
        self, address: str, client_id: str, *, producer_group: str | None = None, consumer_group: str | None = None
    ) -> None:
        """Tell a broker that a group has left this client."""
        header = headers.UnregisterClientRequestHeader(
            client_id=client_id, producer_group=producer_group, consumer_group=consumer_group
        )
        self._call(address, header, HEARTBEAT_TIMEOUT)

    def consumer_ids(self, address: str, group: str, timeout: float = ROUTE_TIMEOUT) -> list[str]:
        """The client ids of a consumer group; a broker that knows no member answers with an error, not with none."""
        answer = self._call(address, headers.GetConsumerListByGroupRequestHeader(consumer_group=group), timeout)
        return list(bodies.CONSUMER_LIST.decode(answer.body))

    def check_subscription(self, address: str, client_id: str, group: str, subscription: SubscriptionData) -> None:
        """Have a broker check a filter expression.

        :raises BrokerError: when it cannot compile it, or does not evaluate such filters.
        """
        body = bodies.CHECK_CLIENT.encode(bodies.CheckClientRequestBody(client_id, group, subscription))
        answer = self._remoting.invoke(address, RemotingCommand(RequestCode.CHECK_CLIENT_CONFIG, body=body), ROUTE_TIMEOUT)
        _body(answer, address)

    def group_subscription(self, address: str, group: str, topic: str) -> SubscriptionData | None:
        """What a broker holds for a group's subscription to a topic: the newest of what its members told; None for nothing."""
        header = headers.QuerySubscriptionByConsumerRequestHeader(group=group, topic=topic)
        return bodies.GROUP_SUBSCRIPTION.decode(self._call(address, header, ROUTE_TIMEOUT).body)

    # -- sending -------------------------------------------------------------------------------------------------------------

    def send(self, address: str, command: PreparedCommand, queue: MessageQueue, msg_id: str, deadline: Deadline) -> SendResult:
        """Send a message or a batch; blocks at most until the deadline.

        :param command: the encoded message.
        :param queue: where it goes.
        :param msg_id: the id the client gave it.
        """
        return read_send_answer(self._remoting.call(address, command, deadline), address, queue, msg_id)

    def send_later(
        self, address: str, command: PreparedCommand, queue: MessageQueue, msg_id: str, timeout: float
    ) -> tuple[Callable[[], SendResult], Callable[[], None]]:
        """As :meth:`send`, in two halves: the request is queued now.  Of the two functions returned one must be called: the
        first waits for the answer, the second gives it up."""
        answer, give_up = self._remoting.invoke_later(address, command, timeout)
        return lambda: read_send_answer(answer(), address, queue, msg_id), give_up

    def send_oneway(self, address: str, command: PreparedCommand, deadline: Deadline) -> None:
        """Send a message that gets no answer; returns when it is queued for sending."""
        self._remoting.post(address, command, deadline)

    def send_back(self, address: str, message: MessageExt, group: str, delay_level: int, max_reconsume_times: int) -> None:
        """Give a message back to the broker that holds it, to be delivered again later or put to the dead letters."""
        header = headers.ConsumerSendMsgBackRequestHeader(
            offset=message.commit_log_offset,
            group=group,
            delay_level=delay_level,
            origin_msg_id=message.msg_id,
            origin_topic=message.topic,
            max_reconsume_times=max_reconsume_times,
            bname=message.broker_name,
        )
        self._call(address, header, SEND_BACK_TIMEOUT)

    def end_transaction(
        self, address: str, header: headers.EndTransactionRequestHeader, remark: str | None, timeout: float, *, oneway: bool
    ) -> None:
        """Say how a transaction ended.

        :param remark: what an operator may want to read in the broker's log.
        :param oneway: send without an answer; brokers never answer the end "unknown".
        """
        request = RemotingCommand(header.CODE, remark=remark, ext_fields=header.to_ext())
        if oneway:
            self._remoting.invoke_oneway(address, request, timeout)
        else:
            _body(self._remoting.invoke(address, request, timeout), address)

    def recall(self, address: str, group: str, topic: str, recall_handle: str, broker_name: str, timeout: float) -> str:
        """Take back a timer message.

        :returns: the message's id.
        """
        header = headers.RecallMessageRequestHeader(
            producer_group=group, topic=topic, recall_handle=recall_handle, bname=broker_name
        )
        return headers.RecallMessageResponseHeader.parse(self._call(address, header, timeout).ext_fields).msg_id

    # -- pulling and offsets -------------------------------------------------------------------------------------------------

    def pull(self, address: str, request: RemotingCommand, timeout: float) -> PullAnswer:
        """Pull messages; the broker may hold the request while there are none.

        :param request: what :class:`~grocketmq.wire.pull_command.PullTemplate` makes.
        """
        answer = self._remoting.invoke(address, request, timeout)
        status = _PULLED.get(answer.code)  # type: ignore[call-overload]
        if status is None:
            raise broker_error(answer.code, answer.remark, address)
        return PullAnswer(status, read_pull_answer(answer), answer.body or b"")

    def query_offset(self, address: str, group: str, queue: MessageQueue) -> int:
        """The offset a group has stored for a queue.

        :raises QueryNotFoundError: when it has stored none.
        """
        header = headers.QueryConsumerOffsetRequestHeader(
            consumer_group=group, topic=queue.topic, queue_id=queue.queue_id, bname=queue.broker_name
        )
        answer = self._call(address, header, OFFSET_TIMEOUT)
        return headers.QueryConsumerOffsetResponseHeader.parse(answer.ext_fields).offset

    def update_offset(self, address: str, group: str, queue: MessageQueue, offset: int, *, oneway: bool) -> None:
        """Store a group's offset of a queue.

        :param oneway: send without an answer, so that a broker's refusal stays unseen.
        """
        header = headers.UpdateConsumerOffsetRequestHeader(
            consumer_group=group,
            topic=queue.topic,
            queue_id=queue.queue_id,
            commit_offset=offset,
            bname=queue.broker_name,
        )
        if oneway:
            request = RemotingCommand(header.CODE, ext_fields=header.to_ext())
            self._remoting.invoke_oneway(address, request, OFFSET_TIMEOUT)
        else:
            self._call(address, header, OFFSET_TIMEOUT)

    def max_offset(self, address: str, queue: MessageQueue, timeout: float = OFFSET_QUERY_TIMEOUT) -> int:
        """One past the queue's last offset; 0 for a queue that does not exist."""
        header = headers.GetMaxOffsetRequestHeader(topic=queue.topic, queue_id=queue.queue_id, bname=queue.broker_name)
        return headers.GetMaxOffsetResponseHeader.parse(self._call(address, header, timeout).ext_fields).offset

    def min_offset(self, address: str, queue: MessageQueue) -> int:
        """The queue's first offset."""
        header = headers.GetMinOffsetRequestHeader(topic=queue.topic, queue_id=queue.queue_id, bname=queue.broker_name)
        return headers.GetMinOffsetResponseHeader.parse(self._call(address, header, OFFSET_QUERY_TIMEOUT).ext_fields).offset

    def search_offset(self, address: str, queue: MessageQueue, timestamp_ms: int) -> int:
        """The first offset stored at or after a time; the maximum offset when the time lies ahead."""
        header = headers.SearchOffsetRequestHeader(
            topic=queue.topic, queue_id=queue.queue_id, timestamp=timestamp_ms, bname=queue.broker_name
        )
        return headers.SearchOffsetResponseHeader.parse(self._call(address, header, OFFSET_QUERY_TIMEOUT).ext_fields).offset

    def earliest_store_time(self, address: str, queue: MessageQueue) -> int:
        """When the queue's first message was stored, ms since the epoch; -1 without one."""
        header = headers.GetEarliestMsgStoretimeRequestHeader(
            topic=queue.topic, queue_id=queue.queue_id, bname=queue.broker_name
        )
        answer = self._call(address, header, OFFSET_QUERY_TIMEOUT)
        return headers.GetEarliestMsgStoretimeResponseHeader.parse(answer.ext_fields).timestamp

    # -- locks ---------------------------------------------------------------------------------------------------------------

    def lock_queues(self, address: str, group: str, client_id: str, queues: Iterable[MessageQueue]) -> set[MessageQueue]:
        """Lock queues of one broker for this client, or renew its locks; they last 60 s.

        :returns: those that are this client's now.
        """
        body = bodies.LOCK_REQUEST.encode(bodies.LockBatchRequestBody(group, client_id, tuple(queues)))
        answer = self._call(address, headers.LockBatchMqRequestHeader(), LOCK_TIMEOUT, body)
        return set(bodies.LOCK_RESPONSE.decode(answer.body))

    def unlock_queues(self, address: str, group: str, client_id: str, queues: Iterable[MessageQueue]) -> None:
        """Give locks back, so that another member need not wait for their end."""
        body = bodies.UNLOCK_REQUEST.encode(bodies.LockBatchRequestBody(group, client_id, tuple(queues)))
        self._call(address, headers.UnlockBatchMqRequestHeader(), LOCK_TIMEOUT, body)

    # -- messages and topics -------------------------------------------------------------------------------------------------

    def view_message(self, address: str, commit_log_offset: int, timeout: float = QUERY_MESSAGE_TIMEOUT) -> MessageExt:
        """The message stored at a commit log offset.

        :raises BrokerError: when none starts there.
        """
        answer = self._call(address, headers.ViewMessageRequestHeader(offset=commit_log_offset), timeout)
        found = self.read(answer.body or b"")
        if not found:
            raise QueryNotFoundError(ResponseCode.QUERY_NOT_FOUND, f"no message at offset {commit_log_offset}", address)
        return found[0]

    def query_message(
        self,
        address: str,
        broker_name: str,
        topic: str,
        key: str,
        max_num: int,
        begin_ms: int,
        end_ms: int,
        *,
        unique: bool,
        timeout: float,
    ) -> list[MessageExt]:
        """Messages whose key has the same hash as the one asked for, of one broker.

        :param broker_name: its name.
        :param unique: whether the key is a unique id.
        :raises QueryNotFoundError: when it finds none.
        """
        header = headers.QueryMessageRequestHeader(
            topic=topic, key=key, max_num=max_num, begin_timestamp=begin_ms, end_timestamp=end_ms, bname=broker_name
        )
        ext = header.to_ext()
        if unique:
            ext[headers.UNIQUE_KEY_QUERY] = "true"
        answer = self._remoting.invoke(address, RemotingCommand(header.CODE, ext_fields=ext), timeout)
        return self.read(_body(answer, address), broker_name)

    def create_topic(self, address: str, topic: str, queues: int, key: str, perm: int, sys_flag: int) -> None:
        """Create a topic at one broker, or change it."""
        header = headers.CreateTopicRequestHeader(
            topic=topic,
            default_topic=key,
            read_queue_nums=queues,
            write_queue_nums=queues,
            perm=perm,
            topic_filter_type="SINGLE_TAG",
            topic_sys_flag=sys_flag,
            order=False,
        )
        self._call(address, header, CREATE_TOPIC_TIMEOUT)

    def read(self, body: bytes, broker_name: str = "") -> list[MessageExt]:
        """The messages of an answer, as the user knows them; blocks while large bodies are unpacked in the thread pool.

        :param broker_name: the broker that answered.
        """
        messages = decode_messages(body, broker_name=broker_name, decompress=False)
        for message in messages:
            unpack(message)
        if self._namespace is not None:
            self._namespace.received(messages)
        return messages

    def _call(self, address: str, header: CommandHeader, timeout: float, body: bytes | None = None) -> RemotingCommand:
        request = RemotingCommand(header.CODE, ext_fields=header.to_ext(), body=body)
        answer = self._remoting.invoke(address, request, timeout)
        if answer.code != ResponseCode.SUCCESS:
            raise broker_error(answer.code, answer.remark, address)
        return answer


def _body(answer: RemotingCommand, address: str) -> bytes:
    if answer.code != ResponseCode.SUCCESS:
        raise broker_error(answer.code, answer.remark, address)
    return answer.body or b""
