"""Sends, batches, and messages that consumers send back.

Source: Apache RocketMQ 5.3.3, module broker, classes ``SendMessageProcessor``, ``AbstractSendMessageProcessor``.
"""

from __future__ import annotations

import random
from json.encoder import encode_basestring_ascii as json_text

from grocketmq.codes import PROTOCOL_VERSION, LanguageCode, RequestCode, ResponseCode
from grocketmq.embedded.answers import REGION, success
from grocketmq.embedded.clients import ClientTable
from grocketmq.embedded.delay import ILLEGAL, Draft, Intake
from grocketmq.embedded.locks import QueueLocks
from grocketmq.embedded.store import MessageStore, Stored
from grocketmq.embedded.topics import TopicTable
from grocketmq.embedded.transactions import Transactions
from grocketmq.model.message_id import UniqueIdGenerator, encode_offset_msg_id
from grocketmq.model.namespace import dlq_topic, group_of_retry_topic, is_retry_topic, retry_topic
from grocketmq.model.properties import Property, decode_properties
from grocketmq.model.recall_handle import RecallHandle, encode_recall_handle
from grocketmq.model.validators import MAX_MESSAGE_BYTES, MAX_TOPIC_LENGTH, NO_SEND_TOPICS
from grocketmq.remoting.server import Channel, Handler, Refused
from grocketmq.wire import headers
from grocketmq.wire.bodies import SubscriptionGroupConfig, TopicConfig
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.flags import MessageSysFlag, RpcFlag
from grocketmq.wire.message_codec import decode_batch, decode_message

__all__ = ["Sends"]

_DLQ_QUEUES = 1
#: ``MQVersion.V3_4_9``: from here on clients say how often they want to try.
_HONOURS_MAX_RECONSUME = 121
#: What a message sent back waits at least, as a delay level.
_FIRST_RETRY_LEVEL = 3

_ANSWER_JSON = (
    f'{{"code":0,"extFields":{{"MSG_REGION":"{REGION}","TRACE_ON":"true","msgId":"%s","queueId":"%d","queueOffset":"%d"%s}},'
    f'"flag":1,"language":"PYTHON","opaque":%d,"serializeTypeCurrentRPC":"JSON","version":{PROTOCOL_VERSION}}}'
)

_Header = headers.SendMessageRequestHeader | headers.SendMessageRequestHeaderV2


class _SendAnswer(RemotingCommand):
    """The answer that must be cheap; its header is written by a template."""

    __slots__ = ("_recall_handle", "_stored", "_transaction_id")

    def __init__(
        self,
        opaque: int,
        msg_id: str,
        queue_id: int,
        queue_offset: int,
        transaction_id: str | None,
        recall_handle: str | None = None,
    ) -> None:
        self.code = int(ResponseCode.SUCCESS)
        self.opaque = opaque
        self.flag = RpcFlag.RESPONSE
        self.remark = None
        self.ext_fields = {
            "MSG_REGION": REGION,
            "TRACE_ON": "true",
            "msgId": msg_id,
            "queueId": str(queue_id),
            "queueOffset": str(queue_offset),
        }
        self.body = None
        self.language = LanguageCode.PYTHON
        self.version = PROTOCOL_VERSION
        self._stored = (msg_id, queue_id, queue_offset)
        self._transaction_id, self._recall_handle = transaction_id, recall_handle
        if transaction_id is not None:
            self.ext_fields["transactionId"] = transaction_id
        if recall_handle is not None:
            self.ext_fields["recallHandle"] = recall_handle

    def prepared_json_header(self) -> bytes:
        more = f',"transactionId":{json_text(self._transaction_id)}' if self._transaction_id is not None else ""
        if self._recall_handle is not None:
            more += f',"recallHandle":{json_text(self._recall_handle)}'
        return (_ANSWER_JSON % (*self._stored, more, self.opaque)).encode("ascii")


class Sends:
    """Takes messages from clients.

    :param broker_name: the broker's name, part of recall handles.
    :param cluster: the cluster's name, which every message carries.
    :param store: the broker's messages.
    :param intake: stores messages, those that have to wait too.
    :param topics: the broker's topics.
    :param clients: its groups.
    :param locks: tell which groups consume in order.
    :param unique_ids: makes ids for messages that come without.
    :param transactions: takes half messages.
    """

    def __init__(
        self,
        broker_name: str,
        cluster: str,
        store: MessageStore,
        intake: Intake,
        topics: TopicTable,
        clients: ClientTable,
        locks: QueueLocks,
        unique_ids: UniqueIdGenerator,
        transactions: Transactions,
    ) -> None:
        self._broker_name = broker_name
        self._extra = {Property.MSG_REGION: REGION, Property.TRACE_SWITCH: "true", Property.CLUSTER: cluster}
        self._store = store
        self._intake = intake
        self._topics = topics
        self._clients = clients
        self._locks = locks
        self._unique_ids = unique_ids
        self._transactions = transactions

    def handlers(self) -> dict[int, Handler]:
        """The requests it serves."""
        return {
            RequestCode.SEND_MESSAGE: self._send_v1,
            RequestCode.SEND_MESSAGE_V2: self._send_v2,
            RequestCode.SEND_BATCH_MESSAGE: self._send_v2,
            RequestCode.CONSUMER_SEND_MSG_BACK: self._send_back,
        }

    def _send_v1(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        return self._send(headers.SendMessageRequestHeader.parse(request.ext_fields), request, channel)

    def _send_v2(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        return self._send(headers.SendMessageRequestHeaderV2.parse(request.ext_fields), request, channel)

    def _send(self, header: _Header, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        if request.body is None:
            raise Refused(ResponseCode.SYSTEM_ERROR, "the message has no body")
        try:
            config = self.topic_of(header)
            if len(request.body) > MAX_MESSAGE_BYTES:
                raise Refused(ResponseCode.MESSAGE_ILLEGAL, ILLEGAL)
            if header.batch:
                return self._send_batch(header, config, request, channel)
            return self._send_one(header, config, request, channel)
        except Refused as refused:
            refused.ext_fields = {"MSG_REGION": REGION, "TRACE_ON": "true"}
            raise

    def topic_of(self, header: _Header) -> TopicConfig:
        """The topic of a send, created where that is allowed; never blocks.

        :raises Refused: where it is not, or for a queue that the topic does not have.
        """
        topic = header.topic
        config = self._topics.get(topic)
        if config is None or topic in NO_SEND_TOPICS:
            self._topics.check_name(topic)
            if topic in NO_SEND_TOPICS:
                raise Refused(ResponseCode.NO_PERMISSION, f"Sending message to topic[{topic}] is forbidden.")
            config = self._topics.create_for_send(topic, header.default_topic, header.default_topic_queue_nums)
            if config is None:
                raise Refused(ResponseCode.TOPIC_NOT_EXIST, f"topic[{topic}] not exist, apply first please!")
        if header.queue_id >= max(config.write_queue_nums, config.read_queue_nums):
            raise Refused(ResponseCode.INVALID_PARAMETER, f"request queueId[{header.queue_id}] is illegal, {config}")
        return config

    def _draft(self, header: _Header, config: TopicConfig, channel: Channel) -> Draft:
        queue_id = header.queue_id
        sys_flag = header.sys_flag
        if config.topic_filter_type == "MULTI_TAG":
            sys_flag |= MessageSysFlag.MULTI_TAGS
        return Draft(
            header.topic,
            queue_id if queue_id >= 0 else random.randrange(config.write_queue_nums),
            b"",
            {},
            sys_flag,
            header.flag,
            header.born_timestamp,
            channel.peer,
            header.reconsume_times or 0,
        )

    def _send_one(self, header: _Header, config: TopicConfig, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        draft = self._draft(header, config, channel)
        assert request.body is not None
        draft.body = request.body
        properties = draft.properties = decode_properties(header.properties or "")
        properties.update(self._extra)
        properties.pop(Property.POP_CK, None)
        unique_id = properties.get(Property.UNIQ_KEY)
        if unique_id is None:
            unique_id = properties[Property.UNIQ_KEY] = self._unique_ids.make(header.born_timestamp)
        if is_retry_topic(header.topic):
            self._retry(header, request, draft)
        queue_id = draft.queue_id
        is_half = properties.get(Property.TRANSACTION_PREPARED, "").lower() == "true"
        stored = self._transactions.put_half(draft) if is_half else self._intake.put(draft)
        handle = self._recall_handle(properties, unique_id)
        return _SendAnswer(request.opaque, self._msg_id(stored), queue_id, stored.queue_offset, unique_id, handle)

    def _recall_handle(self, properties: dict[str, str], unique_id: str) -> str | None:
        deliver_at, topic = properties.get(Property.TIMER_OUT_MS), properties.get(Property.REAL_TOPIC)
        if deliver_at is None or topic is None or is_retry_topic(topic):
            return None
        return encode_recall_handle(RecallHandle(topic, self._broker_name, str(int(deliver_at) + 1), unique_id))

    def _retry(self, header: _Header, request: RemotingCommand, draft: Draft) -> None:
        """A client sends a message to its own retry topic: after too many tries it goes to the dead letters."""
        group = group_of_retry_topic(header.topic)
        most = _most_tries(header, request, self._clients.group_config(group))
        if draft.reconsume_times > most or self._locks.any_held(group):
            draft.properties[Property.DELAY_TIME_LEVEL] = "-1"
            draft.topic = dlq_topic(group)
            draft.queue_id = random.randrange(_DLQ_QUEUES)
            self._topics.create_own(draft.topic, _DLQ_QUEUES)

    def _send_batch(self, header: _Header, config: TopicConfig, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        if len(header.topic) > MAX_TOPIC_LENGTH:
            raise Refused(ResponseCode.MESSAGE_ILLEGAL, f"message topic length too long {len(header.topic)}")
        if is_retry_topic(header.topic):
            raise Refused(ResponseCode.MESSAGE_ILLEGAL, f"batch request does not support retry group {header.topic}")
        draft = self._draft(header, config, channel)
        ids = []
        first: Stored | None = None
        for message in decode_batch(request.body or b""):
            draft.flag, draft.body = message.flag, message.body
            draft.properties = decode_properties(message.properties.decode("utf-8", "replace"))
            stored = self._intake.put_plain(draft)
            first = first or stored
            ids.append(self._msg_id(stored))
        if first is None:
            raise Refused(ResponseCode.MESSAGE_ILLEGAL, "the batch holds no message")
        transaction_id = decode_properties(header.properties or "").get(Property.UNIQ_KEY)
        return _SendAnswer(request.opaque, ",".join(ids), draft.queue_id, first.queue_offset, transaction_id)

    def _msg_id(self, stored: Stored) -> str:
        return encode_offset_msg_id(*self._store.store_host, stored.commit_log_offset)

    def _send_back(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        header = headers.ConsumerSendMsgBackRequestHeader.parse(request.ext_fields)
        config = self._clients.group_config(header.group)
        if config.retry_queue_nums <= 0:
            return success(request)
        topic = retry_topic(header.group)
        queues = self._topics.create_own(topic, config.retry_queue_nums).write_queue_nums
        frame = self._store.log.at(header.offset)
        if frame is None:
            raise Refused(ResponseCode.SYSTEM_ERROR, f"look message by offset failed, {header.offset}")
        message = decode_message(frame, decompress=False)
        properties = message.properties
        properties.setdefault(Property.RETRY_TOPIC, message.topic)
        properties.setdefault(Property.ORIGIN_MESSAGE_ID, message.offset_msg_id)
        properties[Property.WAIT_STORE_MSG_OK] = "false"
        level = header.delay_level
        if message.reconsume_times >= _most_tries(header, request, config) or level < 0:
            topic, queues, level = dlq_topic(header.group), _DLQ_QUEUES, 0
            self._topics.create_own(topic, queues)
        elif level == 0:
            level = _FIRST_RETRY_LEVEL + message.reconsume_times
        properties[Property.DELAY_TIME_LEVEL] = str(level)
        draft = Draft.of(message, topic, random.randrange(queues))
        draft.reconsume_times += 1
        self._intake.put(draft)
        return success(request)


def _most_tries(
    header: _Header | headers.ConsumerSendMsgBackRequestHeader, request: RemotingCommand, config: SubscriptionGroupConfig
) -> int:
    """How often a group gets a message again, by its settings or as the client wants it."""
    if request.version >= _HONOURS_MAX_RECONSUME and header.max_reconsume_times is not None:
        return header.max_reconsume_times
    return config.retry_max_times
