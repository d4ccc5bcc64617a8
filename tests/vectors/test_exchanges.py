"""What a real broker and name server were asked and answered, read and written by our classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from grocketmq.client.api import ClientAPI, PullAnswer
from grocketmq.codes import LanguageCode, RequestCode, ResponseCode, SerializeType
from grocketmq.errors import (
    BrokerError,
    BrokerSystemError,
    FlowControlError,
    GoAwayError,
    GroupNotExistError,
    InvalidParameterError,
    MessageIllegalError,
    NoPermissionError,
    OffsetMovedError,
    QueryNotFoundError,
    RemoteProtocolError,
    RouteNotFoundError,
    ServiceNotAvailableError,
    SubscriptionNotExistError,
    SubscriptionNotLatestError,
    SubscriptionParseError,
    SystemBusyError,
    TopicNotExistError,
    UnsupportedRequestError,
    broker_error,
)
from grocketmq.model.message import MessageExt
from grocketmq.model.message_id import decode_offset_msg_id
from grocketmq.model.properties import Property, decode_properties, encode_properties
from grocketmq.model.recall_handle import decode_recall_handle, encode_recall_handle
from grocketmq.model.results import PullStatus, SendResult, SendStatus
from grocketmq.model.route import MessageQueue
from grocketmq.runtime.deadline import Deadline
from grocketmq.wire import bodies, headers
from grocketmq.wire.bodies import Body
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.flags import RpcFlag
from grocketmq.wire.framing import FrameDecoder, encode_command
from grocketmq.wire.headers import CommandHeader
from grocketmq.wire.json_codec import loads_tolerant
from grocketmq.wire.message_codec import decode_batch, decode_message, decode_messages
from grocketmq.wire.pop_info import decode_msg_offset_info, decode_pop_ck, decode_start_offset_info
from grocketmq.wire.pull_command import PullTemplate
from grocketmq.wire.send_command import SendTemplate
from tests.vectors.loader import body_of, vector
from tests.vectors.test_json_bodies import plain
from tests.vectors.test_messages import check, need_codecs

Case = dict[str, Any]

PEER = "127.0.0.1:10911"
KINDS = (
    "admin",
    "send",
    "delay",
    "recall",
    "pull",
    "heartbeat",
    "group",
    "offset",
    "view",
    "query",
    "lock",
    "send_back",
    "transaction",
    "reply",
    "pop",
    "orderly",
    "via_broker",
    "name_server",
)
SENDS = {
    RequestCode.SEND_MESSAGE,
    RequestCode.SEND_MESSAGE_V2,
    RequestCode.SEND_BATCH_MESSAGE,
    RequestCode.SEND_REPLY_MESSAGE,
    RequestCode.SEND_REPLY_MESSAGE_V2,
}
PULLS = {RequestCode.PULL_MESSAGE, RequestCode.LITE_PULL_MESSAGE}
POPS = {RequestCode.POP_MESSAGE, RequestCode.PEEK_MESSAGE}
#: Requests that are answered with stored messages.
ANSWERED_WITH_MESSAGES = {*PULLS, *POPS, RequestCode.VIEW_MESSAGE_BY_ID, RequestCode.QUERY_MESSAGE}
REQUEST_BODIES: dict[int, Body[Any]] = {
    RequestCode.HEART_BEAT: bodies.HEARTBEAT,
    RequestCode.LOCK_BATCH_MQ: bodies.LOCK_REQUEST,
    RequestCode.UNLOCK_BATCH_MQ: bodies.UNLOCK_REQUEST,
    RequestCode.CHECK_CLIENT_CONFIG: bodies.CHECK_CLIENT,
    RequestCode.BATCH_ACK_MESSAGE: bodies.BATCH_ACK,
    RequestCode.QUERY_ASSIGNMENT: bodies.QUERY_ASSIGNMENT,
    RequestCode.SET_MESSAGE_REQUEST_MODE: bodies.REQUEST_MODE,
    RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP: bodies.GROUP_CONFIG,
    RequestCode.REGISTER_TOPIC_IN_NAMESRV: bodies.TOPIC_ROUTE,
    RequestCode.RESET_CONSUMER_CLIENT_OFFSET: bodies.RESET_OFFSET,
}
ANSWER_BODIES: dict[int, Body[Any]] = {
    RequestCode.GET_CONSUMER_LIST_BY_GROUP: bodies.CONSUMER_LIST,
    RequestCode.LOCK_BATCH_MQ: bodies.LOCK_RESPONSE,
    RequestCode.GET_ROUTEINFO_BY_TOPIC: bodies.TOPIC_ROUTE,
    RequestCode.GET_BROKER_CLUSTER_INFO: bodies.CLUSTER_INFO,
    RequestCode.GET_ALL_TOPIC_LIST_FROM_NAMESERVER: bodies.TOPIC_LIST,
    RequestCode.GET_TOPICS_BY_CLUSTER: bodies.TOPIC_LIST,
    RequestCode.GET_SYSTEM_TOPIC_LIST_FROM_NS: bodies.TOPIC_LIST,
    RequestCode.GET_SYSTEM_TOPIC_LIST_FROM_BROKER: bodies.TOPIC_LIST,
    RequestCode.GET_TOPIC_CONFIG: bodies.TOPIC_CONFIG,
    RequestCode.GET_SUBSCRIPTIONGROUP_CONFIG: bodies.GROUP_CONFIG,
    RequestCode.GET_TOPIC_STATS_INFO: bodies.TOPIC_STATS,
    RequestCode.GET_CONSUME_STATS: bodies.CONSUME_STATS,
    RequestCode.GET_CONSUMER_RUNNING_INFO: bodies.RUNNING_INFO,
    RequestCode.CONSUME_MESSAGE_DIRECTLY: bodies.DIRECT_RESULT,
    RequestCode.GET_CONSUMER_STATUS_FROM_CLIENT: bodies.CONSUMER_STATUS,
    RequestCode.INVOKE_BROKER_TO_GET_CONSUMER_STATUS: bodies.CONSUMER_STATUS,
    RequestCode.INVOKE_BROKER_TO_RESET_OFFSET: bodies.RESET_OFFSET,
    RequestCode.QUERY_ASSIGNMENT: bodies.ASSIGNMENTS,
}
ANSWER_HEADERS: dict[int, type[CommandHeader]] = {
    **dict.fromkeys(SENDS, headers.SendMessageResponseHeader),
    **dict.fromkeys(PULLS, headers.PullMessageResponseHeader),
    **dict.fromkeys(POPS, headers.PopMessageResponseHeader),
    RequestCode.QUERY_MESSAGE: headers.QueryMessageResponseHeader,
    RequestCode.QUERY_CONSUMER_OFFSET: headers.QueryConsumerOffsetResponseHeader,
    RequestCode.GET_MAX_OFFSET: headers.GetMaxOffsetResponseHeader,
    RequestCode.GET_MIN_OFFSET: headers.GetMinOffsetResponseHeader,
    RequestCode.SEARCH_OFFSET_BY_TIMESTAMP: headers.SearchOffsetResponseHeader,
    RequestCode.GET_EARLIEST_MSG_STORETIME: headers.GetEarliestMsgStoretimeResponseHeader,
    RequestCode.HEART_BEAT: headers.HeartbeatResponseHeader,
    RequestCode.RECALL_MESSAGE: headers.RecallMessageResponseHeader,
    RequestCode.CHANGE_MESSAGE_INVISIBLETIME: headers.ChangeInvisibleTimeResponseHeader,
    RequestCode.NOTIFICATION: headers.NotificationResponseHeader,
    RequestCode.POLLING_INFO: headers.PollingInfoResponseHeader,
    RequestCode.GET_KV_CONFIG: headers.GetKVConfigResponseHeader,
}
#: What a broker asks of a client.
BROKER_REQUESTS: dict[int, type[CommandHeader]] = {
    RequestCode.CHECK_TRANSACTION_STATE: headers.CheckTransactionStateRequestHeader,
    RequestCode.NOTIFY_CONSUMER_IDS_CHANGED: headers.NotifyConsumerIdsChangedRequestHeader,
    RequestCode.RESET_CONSUMER_CLIENT_OFFSET: headers.ResetOffsetRequestHeader,
    RequestCode.GET_CONSUMER_STATUS_FROM_CLIENT: headers.GetConsumerStatusRequestHeader,
    RequestCode.GET_CONSUMER_RUNNING_INFO: headers.GetConsumerRunningInfoRequestHeader,
    RequestCode.CONSUME_MESSAGE_DIRECTLY: headers.ConsumeMessageDirectlyResultRequestHeader,
    RequestCode.PUSH_REPLY_MESSAGE_TO_CLIENT: headers.ReplyMessageRequestHeader,
}
ERRORS: dict[int, type[BrokerError]] = {
    1: BrokerSystemError,
    2: SystemBusyError,
    3: UnsupportedRequestError,
    13: MessageIllegalError,
    14: ServiceNotAvailableError,
    16: NoPermissionError,
    17: TopicNotExistError,
    21: OffsetMovedError,
    22: QueryNotFoundError,
    23: SubscriptionParseError,
    24: SubscriptionNotExistError,
    25: SubscriptionNotLatestError,
    26: GroupNotExistError,
    29: InvalidParameterError,
    215: FlowControlError,
    1500: GoAwayError,
}
PULL_STATUS = {
    ResponseCode.SUCCESS: PullStatus.FOUND,
    ResponseCode.PULL_NOT_FOUND: PullStatus.NO_NEW_MSG,
    ResponseCode.PULL_RETRY_IMMEDIATELY: PullStatus.NO_MATCHED_MSG,
    ResponseCode.PULL_OFFSET_MOVED: PullStatus.OFFSET_ILLEGAL,
}
SEND_STATUS = {
    ResponseCode.SUCCESS: SendStatus.SEND_OK,
    ResponseCode.FLUSH_DISK_TIMEOUT: SendStatus.FLUSH_DISK_TIMEOUT,
    ResponseCode.FLUSH_SLAVE_TIMEOUT: SendStatus.FLUSH_SLAVE_TIMEOUT,
    ResponseCode.SLAVE_NOT_AVAILABLE: SendStatus.SLAVE_NOT_AVAILABLE,
}
#: Codes that are no refusal, by request: nothing there is an answer too.
EMPTY_POP = {ResponseCode.PULL_NOT_FOUND, ResponseCode.POLLING_FULL, ResponseCode.POLLING_TIMEOUT}
NOT_REFUSED: dict[int, set[ResponseCode]] = {
    **{code: set(SEND_STATUS) for code in SENDS},
    **{code: set(PULL_STATUS) for code in PULLS},
    **{code: {ResponseCode.SUCCESS, *EMPTY_POP} for code in POPS},
}
#: Fields that travel beside those of a header's class.
BESIDE = {headers.UNIQUE_KEY_QUERY, "MSG_REGION", "TRACE_ON"}


def payload(value: Case | None) -> bytes | None:
    """A recorded body; of a large one only the length was kept."""
    return bytes(value["len"]) if value is not None and value.keys() <= {"len", "sha256"} else body_of(value)


def command(recorded: Case, flag: int = 0) -> RemotingCommand:
    language = LanguageCode[recorded.get("language", "JAVA")]
    return RemotingCommand(
        recorded["code"],
        7,
        flag,
        recorded.get("remark"),
        recorded["ext"],
        payload(recorded["body"]),
        language,
        recorded.get("version", 0),
    )


def as_values(one: RemotingCommand) -> tuple[object, ...]:
    return (one.code, one.opaque, one.flag, one.remark, one.ext_fields or {}, one.body, one.language, one.version)


def over_the_wire(sent: RemotingCommand, serialize_type: str) -> RemotingCommand:
    (received,) = FrameDecoder().feed(encode_command(sent, SerializeType[serialize_type]))
    return received


def refused(case: Case) -> bool:
    return case["response"]["code"] not in NOT_REFUSED.get(case["request"]["code"], {ResponseCode.SUCCESS})


def written_again(cls: type[CommandHeader], ext: Case) -> Case:
    """A header read into values and written from them, with what travels beside it."""
    header = cls.parse(ext)
    values = {attribute: getattr(header, attribute) for attribute in cls.wire_names()}
    return {**cls(**values).to_ext(), **{name: text for name, text in ext.items() if name in BESIDE}}


def same_json(body: Body[Any], data: bytes) -> Any:
    """Read a body, write it, and say what it means."""
    value = body.decode(data)
    for object_keys in (False, True):
        assert plain(loads_tolerant(body.encode(value, object_keys=True))) == plain(loads_tolerant(data))
        assert body.decode(body.encode(value, object_keys=object_keys)) == value
    return value


# -- every exchange ----------------------------------------------------------------------------------------------------------


@vector("exchanges", *KINDS)
def test_frames(case: Case) -> None:
    """Both frames are the same after our encoder and decoder, in the recorded header encoding."""
    request, answer = command(case["request"]), command(case["response"], case["response"]["flag"])
    assert as_values(over_the_wire(request, case["request"]["serialize"])) == as_values(request)
    received = over_the_wire(answer, case["response"]["serialize"])
    assert as_values(received) == as_values(answer)
    assert received.is_response
    assert not received.is_oneway


@vector("exchanges", *KINDS)
def test_request_header(case: Case) -> None:
    request = case["request"]
    if request["header_class"] is None:
        assert not request["ext"] or request["code"] == RequestCode.HEART_BEAT
        return
    cls = getattr(headers, request["header_class"])
    assert written_again(cls, request["ext"]) == request["ext"]
    assert cls.CODE in {request["code"], *same_header(request["code"])}


def same_header(code: int) -> set[RequestCode]:
    """Codes that share a header class."""
    families: list[set[RequestCode]] = [
        SENDS,
        PULLS,
        {RequestCode.RESET_CONSUMER_CLIENT_OFFSET, RequestCode.INVOKE_BROKER_TO_RESET_OFFSET},
        {RequestCode.GET_CONSUMER_STATUS_FROM_CLIENT, RequestCode.INVOKE_BROKER_TO_GET_CONSUMER_STATUS},
    ]
    return next((family for family in families if code in family), set())


@vector("exchanges", *KINDS)
def test_request_body(case: Case) -> None:
    code, data = case["request"]["code"], payload(case["request"]["body"])
    if data is None or code in SENDS - {RequestCode.SEND_BATCH_MESSAGE}:
        return
    if code == RequestCode.SEND_BATCH_MESSAGE:
        assert decode_batch(data)
        return
    body = REQUEST_BODIES[code]
    try:
        loads_tolerant(data)
    except RemoteProtocolError:
        assert refused(case)
        with pytest.raises(RemoteProtocolError, match=body.name):
            body.decode(data)
        return
    same_json(body, data)


@vector("exchanges", *KINDS)
def test_answer(case: Case) -> None:
    """A success is read into values, a refusal is the code's error."""
    request, answer = case["request"], case["response"]
    data, ext = payload(answer["body"]), answer["ext"] or {}
    if refused(case):
        error = broker_error(answer["code"], answer["remark"], PEER)
        assert type(error) is ERRORS.get(answer["code"], BrokerError)
        assert (error.code, error.remark, error.address) == (answer["code"], answer["remark"], PEER)
        assert str(answer["code"]) in str(error)
        return
    cls = ANSWER_HEADERS.get(request["code"])
    if cls is not None:
        assert written_again(cls, ext) == ext
    else:
        assert not ext.keys() - BESIDE
    if request["code"] in ANSWERED_WITH_MESSAGES:
        need_codecs(data or b"")
        check(decode_messages(data or b""), answer.get("messages") or [])
    elif data is not None:
        same_json(ANSWER_BODIES[request["code"]], data)


# -- through the client's calls ----------------------------------------------------------------------------------------------


class Recorded:
    """Stands for the connections: notes the request and gives the recorded answer."""

    def __init__(self, case: Case) -> None:
        self.answer = command(case["response"], case["response"]["flag"])
        self.request: RemotingCommand | None = None

    def invoke(self, address: str, request: RemotingCommand, timeout: float) -> RemotingCommand:
        self.request = request
        return self.answer

    def call(self, address: str, request: RemotingCommand, deadline: Deadline) -> RemotingCommand:
        return self.invoke(address, request, deadline.remaining())


class RecordedNameServer(Recorded):
    def invoke(self, request: RemotingCommand, timeout: float) -> tuple[RemotingCommand, str]:  # type: ignore[override]
        self.request = request
        return self.answer, "127.0.0.1:9876"


def call(case: Case, make: Callable[[ClientAPI, Any], Any]) -> Any:
    """What the client's call gives for the recorded answer: a value, or the right error.

    Where our request and the recorded one have a field in common, it says the same.
    """
    request = case["request"]
    to_name_server = case["to"] == "name server"
    recorded = RecordedNameServer(case) if to_name_server else Recorded(case)
    api = ClientAPI(recorded, recorded)  # type: ignore[arg-type]
    header = getattr(headers, request["header_class"]).parse(request["ext"]) if request["header_class"] else None
    found: Any
    try:
        found = make(api, header)
    except (BrokerError, RouteNotFoundError) as error:
        found = error
    assert isinstance(found, (BrokerError, RouteNotFoundError)) is refused(case), repr(found)
    if isinstance(found, BrokerError):
        assert type(found) is ERRORS.get(case["response"]["code"], BrokerError)
    sent = recorded.request
    assert sent is not None
    if header is not None and sent.code == request["code"]:
        ours, theirs = sent.ext_fields or {}, request["ext"] or {}
        assert {name: ours[name] for name in ours.keys() & theirs.keys()} == {
            name: theirs[name] for name in ours.keys() & theirs.keys()
        }
    return found


def queue_of(header: Any) -> MessageQueue:
    return MessageQueue(header.topic, header.bname or "", header.queue_id)


@vector("exchanges", "send", "delay", "transaction", "orderly", "reply")
def test_send(case: Case) -> None:
    """The fast path writes the recorded fields, and reads the answer as the header class does."""
    request, answer = case["request"], case["response"]
    if request["code"] not in SENDS:
        return
    cls = getattr(headers, request["header_class"])
    header = cls.parse(request["ext"])
    v2 = header if cls is headers.SendMessageRequestHeaderV2 else header.to_v2()
    fields = v2.to_ext()
    template = SendTemplate(RequestCode.SEND_MESSAGE_V2, {name: text for name, text in fields.items() if name not in "efghij"})
    sent = template.command(
        v2.queue_id,
        v2.sys_flag,
        v2.born_timestamp,
        v2.flag,
        v2.properties or "",
        v2.reconsume_times or 0,
        payload(request["body"]) or b"",
    )
    received = over_the_wire(sent, "JSON")
    assert received.ext_fields == {"i": "", "j": "0", **fields}
    properties = decode_properties(v2.properties or "")
    assert decode_properties(encode_properties(properties)) == properties

    def make(api: ClientAPI, _: Any) -> SendResult:
        queue = MessageQueue(v2.topic, v2.broker_name or "", v2.queue_id)
        return api.send(PEER, sent, queue, properties.get(Property.UNIQ_KEY, ""), Deadline(1.0))

    result = call(case, make)
    if not isinstance(result, SendResult):
        return
    stored = headers.SendMessageResponseHeader.parse(answer["ext"])
    assert result.offset_msg_id == stored.msg_id
    assert result.status is SEND_STATUS[answer["code"]]
    assert (result.message_queue.topic, result.message_queue.queue_id) == (v2.topic, stored.queue_id)
    assert (result.queue_offset, result.transaction_id) == (stored.queue_offset, stored.transaction_id)
    assert result.region_id == answer["ext"].get("MSG_REGION", "DefaultRegion")
    for one in result.offset_msg_id.split(","):
        assert decode_offset_msg_id(one).commit_log_offset >= 0
    if stored.recall_handle is not None:
        handle = decode_recall_handle(stored.recall_handle)
        assert (handle.topic, handle.broker_name) == (v2.topic, v2.broker_name)
        assert handle.message_id == properties.get(Property.UNIQ_KEY, handle.message_id)
        assert encode_recall_handle(handle) == stored.recall_handle


@vector("exchanges", "pull")
def test_pull(case: Case) -> None:
    answer = case["response"]
    request = case["request"]

    def make(api: ClientAPI, header: Any) -> PullAnswer:
        template = PullTemplate(header, RequestCode(request["code"]))
        return api.pull(PEER, template.command(header.queue_offset, header.sys_flag, header.commit_offset), 1.0)

    found = call(case, make)
    if not isinstance(found, PullAnswer):
        return
    need_codecs(found.body)
    messages = decode_messages(found.body)
    header = headers.PullMessageRequestHeader.parse(request["ext"])
    fields = found.fields
    assert found.status is PULL_STATUS[answer["code"]]
    assert fields[:4] == tuple(
        int(answer["ext"][name]) for name in ("suggestWhichBrokerId", "nextBeginOffset", "minOffset", "maxOffset")
    )
    assert bool(messages) is (found.status is PullStatus.FOUND)
    assert len(messages) <= header.max_msg_nums
    for message in messages:
        assert header.queue_offset <= message.queue_offset < fields.next_begin_offset <= fields.max_offset
        assert (message.topic, message.queue_id) == (header.topic, header.queue_id)


@vector("exchanges", "offset")
def test_offset(case: Case) -> None:
    calls: dict[int, Callable[[ClientAPI, Any], Any]] = {
        RequestCode.GET_MAX_OFFSET: lambda api, header: api.max_offset(PEER, queue_of(header)),
        RequestCode.GET_MIN_OFFSET: lambda api, header: api.min_offset(PEER, queue_of(header)),
        RequestCode.SEARCH_OFFSET_BY_TIMESTAMP: lambda api, header: api.search_offset(PEER, queue_of(header), header.timestamp),
        RequestCode.GET_EARLIEST_MSG_STORETIME: lambda api, header: api.earliest_store_time(PEER, queue_of(header)),
        RequestCode.QUERY_CONSUMER_OFFSET: lambda api, header: api.query_offset(PEER, header.consumer_group, queue_of(header)),
        RequestCode.UPDATE_CONSUMER_OFFSET: lambda api, header: api.update_offset(
            PEER, header.consumer_group, queue_of(header), header.commit_offset, oneway=False
        ),
    }
    make = calls.get(case["request"]["code"])
    if make is None:
        return
    found = call(case, make)
    if not isinstance(found, BrokerError):
        ext = case["response"]["ext"] or {}
        told = next((ext[name] for name in ("offset", "timestamp") if name in ext), None)
        assert found == (None if told is None else int(told))


@vector("exchanges", "view", "query")
def test_view(case: Case) -> None:
    if case["request"]["code"] != RequestCode.VIEW_MESSAGE_BY_ID:
        return
    found = call(case, lambda api, header: api.view_message(PEER, header.offset))
    if isinstance(found, MessageExt):
        check([found], case["response"]["messages"])
        assert decode_offset_msg_id(found.offset_msg_id).commit_log_offset == int(case["request"]["ext"]["offset"])


@vector("exchanges", "heartbeat", "group", "send_back", "admin", "name_server")
def test_other_calls(case: Case) -> None:
    answer, body = case["response"], payload(case["request"]["body"])
    calls: dict[int, Callable[[ClientAPI, Any], Any]] = {
        RequestCode.HEART_BEAT: lambda api, header: api.heartbeat(PEER, body or b""),
        RequestCode.UNREGISTER_CLIENT: lambda api, header: api.unregister(
            PEER, header.client_id, producer_group=header.producer_group, consumer_group=header.consumer_group
        ),
        RequestCode.GET_CONSUMER_LIST_BY_GROUP: lambda api, header: api.consumer_ids(PEER, header.consumer_group),
        RequestCode.CONSUMER_SEND_MSG_BACK: lambda api, header: api.send_back(
            PEER,
            MessageExt(
                header.origin_topic,
                b"",
                properties={Property.UNIQ_KEY: header.origin_msg_id},
                commit_log_offset=header.offset,
                broker_name=header.bname,
            ),
            header.group,
            header.delay_level,
            header.max_reconsume_times,
        ),
        RequestCode.UPDATE_AND_CREATE_TOPIC: lambda api, header: api.create_topic(
            PEER, header.topic, header.read_queue_nums, header.default_topic, header.perm, header.topic_sys_flag
        ),
        RequestCode.GET_ROUTEINFO_BY_TOPIC: lambda api, header: api.topic_route(header.topic),
        RequestCode.GET_ALL_TOPIC_LIST_FROM_NAMESERVER: lambda api, header: api.topic_list(),
    }
    make = calls.get(case["request"]["code"])
    if make is None:
        return
    found = call(case, make)
    if isinstance(found, RouteNotFoundError):
        assert found.topic == case["request"]["ext"]["topic"]
    elif isinstance(found, int):
        assert found == answer["version"]
    elif isinstance(found, list):
        (names,) = (inner for inner in loads_tolerant(payload(answer["body"]) or b"").values() if isinstance(inner, list))
        assert found == names


@vector("exchanges", "lock", "orderly")
def test_lock(case: Case) -> None:
    """What is locked was asked for."""
    if case["request"]["code"] != RequestCode.LOCK_BATCH_MQ or refused(case):
        return
    asked = bodies.LOCK_REQUEST.decode(payload(case["request"]["body"]))
    assert set(bodies.LOCK_RESPONSE.decode(payload(case["response"]["body"]))) <= set(asked.mq_set)


@vector("exchanges", "pop")
def test_pop(case: Case) -> None:
    """The texts of a pop name the messages it came with; the check points of acknowledgements can be read."""
    request, answer = case["request"], case["response"]
    if request["ext"] and "extraInfo" in request["ext"]:
        assert str(decode_pop_ck(request["ext"]["extraInfo"])) == request["ext"]["extraInfo"]
    if request["code"] != RequestCode.POP_MESSAGE or answer["code"] != ResponseCode.SUCCESS:
        return
    header = headers.PopMessageResponseHeader.parse(answer["ext"])
    named = decode_msg_offset_info(header.msg_offset_info)
    assert decode_start_offset_info(header.start_offset_info).keys() == named.keys()
    data = payload(answer["body"]) or b""
    need_codecs(data)
    assert sorted(offset for offsets in named.values() for offset in offsets) == sorted(
        message.queue_offset for message in decode_messages(data)
    )


# -- what brokers ask --------------------------------------------------------------------------------------------------------


@vector("exchanges", "broker_request")
def test_broker_request(case: Case) -> None:
    request = command(case, case["flag"])
    received = over_the_wire(request, "JSON")
    assert as_values(received) == as_values(request)
    assert received.is_oneway is case["oneway"]
    assert not received.is_response
    assert written_again(BROKER_REQUESTS[case["code"]], case["ext"]) == case["ext"]
    if case["messages"] is not None:
        need_codecs(received.body or b"")
        check(decode_messages(received.body or b""), case["messages"])
    elif received.body and case["code"] in REQUEST_BODIES:
        same_json(REQUEST_BODIES[case["code"]], received.body)


@vector("exchanges", "broker_request")
def test_half_message(case: Case) -> None:
    """The message that a check asks about is the one its header names."""
    if case["code"] != RequestCode.CHECK_TRANSACTION_STATE:
        return
    data = payload(case["body"]) or b""
    header = headers.CheckTransactionStateRequestHeader.parse(case["ext"])
    message = decode_message(data)
    assert (header.commit_log_offset, header.tran_state_table_offset) == (message.commit_log_offset, message.queue_offset)
    assert header.msg_id == message.msg_id
    assert message.properties[Property.PRODUCER_GROUP]


@vector("exchanges", "broker_request")
def test_answer_to_broker(case: Case) -> None:
    """The answer that Java's client gave can be written by our classes and means the same."""
    answer = case["answer"]
    assert case["answer_expected"] is (answer is not None)
    if answer is None:
        assert case["oneway"]
        return
    text, body = answer["body_text"], None
    if text is not None:
        schema = ANSWER_BODIES[case["code"]]
        body = schema.encode(same_json(schema, text.encode("utf-8")))
    written = RemotingCommand.response_to(command(case, case["flag"]), answer["code"], body=body)
    received = over_the_wire(written, "JSON")
    assert (received.code, received.opaque, received.flag) == (answer["code"], 7, RpcFlag.RESPONSE)
    assert (received.body is None) is (text is None)
