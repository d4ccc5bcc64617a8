"""The embedded cluster as any client sees it: raw requests and answers."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import gevent
import pytest

from grocketmq import Producer
from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded.clock import Clock
from grocketmq.embedded.control import answer, close, delay, drop, fail
from grocketmq.errors import ConfigError, RemotingError, RouteNotFoundError
from grocketmq.model.message import Message
from grocketmq.model.message_id import encode_offset_msg_id
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import subscription
from grocketmq.wire import bodies, headers
from grocketmq.wire.bodies import CheckClientRequestBody, LockBatchRequestBody
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.message_codec import decode_messages, encode_batch
from tests.embedded.raw import GROUP, TOPIC, RawClient, names, send_header
from tests.helpers import wait_for

RETRY = f"%RETRY%{GROUP}"
DLQ = f"%DLQ%{GROUP}"


# Sending


@pytest.mark.parametrize("code", [RequestCode.SEND_MESSAGE, RequestCode.SEND_MESSAGE_V2])
def test_send_and_pull(raw: RawClient, code: RequestCode) -> None:
    v2 = send_header(TAGS="TagA", KEYS="key", UNIQ_KEY="U1", own="значение")
    header = v2 if code == RequestCode.SEND_MESSAGE_V2 else v2.to_v1()
    for number in range(3):
        sent = raw.call(header, b"body %d" % number)
        assert names(sent) == "SUCCESS"
        ext = sent.ext_fields or {}
        assert (ext["queueId"], ext["queueOffset"], ext["transactionId"]) == ("0", str(number), "U1")
        assert (ext["MSG_REGION"], ext["TRACE_ON"]) == ("DefaultRegion", "true")
    pulled = raw.pull()
    assert (names(pulled), pulled.remark) == ("SUCCESS", "FOUND")
    messages = decode_messages(pulled.body or b"")
    assert [message.body for message in messages] == [b"body 0", b"body 1", b"body 2"]
    last = messages[-1]
    assert last.properties == {
        "TAGS": "TagA",
        "KEYS": "key",
        "UNIQ_KEY": "U1",
        "own": "значение",
        "MSG_REGION": "DefaultRegion",
        "TRACE_ON": "true",
        "CLUSTER": "DefaultCluster",
    }
    assert last.offset_msg_id == ext["msgId"]
    assert last.store_host == raw.broker
    assert last.born_timestamp == v2.born_timestamp <= last.store_timestamp
    found = headers.PullMessageResponseHeader.parse(pulled.ext_fields)
    assert (found.next_begin_offset, found.min_offset, found.max_offset, found.suggest_which_broker_id) == (3, 0, 3, 0)


def test_batch(raw: RawClient) -> None:
    body = encode_batch([Message(TOPIC, b"%d" % number, tags="ab"[number % 2]) for number in range(4)])
    header = send_header(WAIT="true")
    header.batch = True
    sent = raw.call(header, body, code=RequestCode.SEND_BATCH_MESSAGE)
    messages = raw.messages()
    assert [message.body for message in messages] == [b"0", b"1", b"2", b"3"]
    assert (sent.ext_fields or {})["msgId"] == ",".join(message.offset_msg_id for message in messages)
    assert (sent.ext_fields or {})["queueOffset"] == "0"
    assert messages[1].tags == "b"
    assert messages[1].properties == {"WAIT": "true", "TAGS": "b"}, "a broker adds nothing to a batch's messages"
    tagged = raw.pull(expression="b")
    assert [message.body for message in decode_messages(tagged.body or b"")] == [b"1", b"3"]


def test_oneway(raw: RawClient) -> None:
    header = send_header()
    raw.remoting.invoke_oneway(raw.broker, RemotingCommand(header.CODE, ext_fields=header.to_ext(), body=b"x"), 3.0)
    wait_for(lambda: [message.body for message in raw.messages()] == [b"x"])


def test_a_message_without_an_id_gets_one(raw: RawClient) -> None:
    sent = raw.send(b"x")
    (message,) = raw.messages()
    assert message.msg_id == (sent.ext_fields or {})["transactionId"]
    assert len(message.msg_id) == 32


def test_queue_minus_one_is_any(raw: RawClient, cluster: EmbeddedCluster) -> None:
    cluster.create_topic(TOPIC, queues=4)
    queues = {(raw.send(queue_id=-1).ext_fields or {})["queueId"] for _ in range(100)}
    assert queues == {"0", "1", "2", "3"}


@pytest.mark.parametrize(
    ("change", "body", "code"),
    [
        ({"topic": "SCHEDULE_TOPIC_XXXX"}, b"x", ResponseCode.NO_PERMISSION),
        ({"topic": "bad topic!"}, b"x", ResponseCode.INVALID_PARAMETER),
        ({"topic": "x" * 128}, b"x", ResponseCode.INVALID_PARAMETER),
        ({"default_topic": "nothing"}, b"x", ResponseCode.TOPIC_NOT_EXIST),
        ({"queue_id": 4}, b"x", ResponseCode.INVALID_PARAMETER),
        ({}, None, ResponseCode.SYSTEM_ERROR),
        ({}, bytes((4 << 20) + 1), ResponseCode.MESSAGE_ILLEGAL),
        ({"properties": "big\x01" + "p" * 33000 + "\x02"}, b"x", ResponseCode.MESSAGE_ILLEGAL),
        ({"batch": True}, b"no batch", ResponseCode.SYSTEM_ERROR),
        ({"batch": True, "topic": RETRY}, b"x", ResponseCode.MESSAGE_ILLEGAL),
        ({"properties": "DELAY\x01soon\x02"}, b"x", ResponseCode.MESSAGE_ILLEGAL),
        ({"properties": "TIMER_DELAY_SEC\x01360000\x02"}, b"x", ResponseCode.MESSAGE_ILLEGAL),
        ({"producer_group": None}, b"x", ResponseCode.SYSTEM_ERROR),
    ],
)
def test_refused_sends(raw: RawClient, change: dict[str, object], body: bytes | None, code: ResponseCode) -> None:
    header = send_header()
    for name, value in change.items():
        setattr(header, name, value)
    assert names(raw.call(header, body)) == code.name
    assert raw.messages() == []


def test_largest_body(raw: RawClient) -> None:
    body = bytes(4 << 20)
    assert names(raw.send(body)) == "SUCCESS"
    assert raw.messages()[0].body == body


def test_a_send_creates_its_topic(raw: RawClient, cluster: EmbeddedCluster) -> None:
    raw.send()
    route = bodies.TOPIC_ROUTE.decode(raw.call(headers.GetRouteInfoRequestHeader(topic=TOPIC), at=cluster.namesrv).body)
    assert [(data.read_queue_nums, data.write_queue_nums, data.perm) for data in route.queue_datas] == [(4, 4, 6)]


def test_no_topic_is_created_where_that_is_off() -> None:
    with EmbeddedCluster(auto_create_topics=False) as cluster:
        raw = RawClient(cluster.broker_address("broker-a"))
        assert names(raw.send()) == "TOPIC_NOT_EXIST"
        cluster.create_topic(TOPIC)
        assert names(raw.send()) == "SUCCESS"
        raw.close()


# Pulling


def pulled(raw: RawClient, offset: int = 0, **more: object) -> tuple[str, str | None, int]:
    found = raw.pull(offset, **more)  # type: ignore[arg-type]
    return names(found), found.remark, headers.PullMessageResponseHeader.parse(found.ext_fields).next_begin_offset


def test_codes_of_pulls(raw: RawClient) -> None:
    for number in range(3):
        raw.send(b"%d" % number, TAGS="a")
    assert pulled(raw, 3) == ("PULL_NOT_FOUND", "OFFSET_OVERFLOW_ONE", 3)
    assert pulled(raw, 4) == ("PULL_OFFSET_MOVED", "OFFSET_OVERFLOW_BADLY", 3)
    assert pulled(raw, -1) == ("PULL_OFFSET_MOVED", "OFFSET_TOO_SMALL", 0)
    assert pulled(raw, 0, expression="b") == ("PULL_RETRY_IMMEDIATELY", "NO_MATCHED_MESSAGE", 3)
    assert pulled(raw, 0, queue_id=1) == ("PULL_NOT_FOUND", "NO_MESSAGE_IN_QUEUE", 0)
    assert pulled(raw, 5, queue_id=1) == ("PULL_OFFSET_MOVED", "NO_MESSAGE_IN_QUEUE", 0)
    assert pulled(raw, 0, max_msg_nums=2) == ("SUCCESS", "FOUND", 2)


def test_refused_pulls(raw: RawClient, cluster: EmbeddedCluster) -> None:
    cluster.create_topic(TOPIC)
    cluster.create_topic("unreadable", perm=2)
    assert names(raw.pull(topic="unknown")) == "TOPIC_NOT_EXIST"
    assert names(raw.pull(topic="unreadable")) == "NO_PERMISSION"
    assert names(raw.pull(queue_id=4)) == "INVALID_PARAMETER"
    assert names(raw.pull(queue_id=-1)) == "INVALID_PARAMETER"
    assert names(raw.pull(group="bad group!")) == "SUBSCRIPTION_GROUP_NOT_EXIST"
    assert names(raw.pull(expression="||")) == "SUBSCRIPTION_PARSE_FAILED"


def test_the_heartbeats_subscription_counts(raw: RawClient) -> None:
    for tag in "ab":
        raw.send(tag.encode(), TAGS=tag)
    assert names(raw.pull(expression=None)) == "SUBSCRIPTION_NOT_EXIST"
    raw.heartbeat("client", subscription("other", "*", 5))
    assert names(raw.pull(expression=None)) == "SUBSCRIPTION_NOT_EXIST"
    raw.heartbeat("client", subscription(TOPIC, "b", 5))
    assert names(raw.pull(expression=None, sub_version=6)) == "SUBSCRIPTION_NOT_LATEST"
    assert [message.body for message in decode_messages(raw.pull(expression=None, sub_version=5).body or b"")] == [b"b"]
    raw.heartbeat("client", subscription(TOPIC, "a", 4))
    still = raw.pull(expression=None, sub_version=5)
    assert [message.body for message in decode_messages(still.body or b"")] == [b"b"], "an older version changes nothing"


def test_a_pull_commits_on_the_way(raw: RawClient) -> None:
    raw.send()
    raw.pull(0, commit_offset=7)
    assert query(raw) == ("SUCCESS", 7)


def test_a_pull_waits_for_a_message(raw: RawClient, cluster: EmbeddedCluster) -> None:
    cluster.create_topic(TOPIC)
    waiting = gevent.spawn(raw.pull, 0, hold=30.0)
    wait_for(lambda: cluster.brokers["broker-a"].pulls.held() == 1)
    raw.send(b"now")
    assert decode_messages(waiting.get(timeout=1).body or b"")[0].body == b"now"
    assert cluster.brokers["broker-a"].pulls.held() == 0


def test_a_pull_waits_for_its_tag(raw: RawClient, cluster: EmbeddedCluster) -> None:
    cluster.create_topic(TOPIC)
    waiting = gevent.spawn(raw.pull, 0, hold=30.0, expression="b")
    wait_for(lambda: cluster.brokers["broker-a"].pulls.held() == 1)
    raw.send(b"1", TAGS="a")
    gevent.sleep(0.02)
    assert not waiting.ready()
    raw.send(b"2", TAGS="b")
    assert decode_messages(waiting.get(timeout=1).body or b"")[0].body == b"2"


def test_a_wait_ends(raw: RawClient, cluster: EmbeddedCluster) -> None:
    cluster.create_topic(TOPIC)
    waiting = gevent.spawn(raw.pull, 0, hold=30.0)
    wait_for(lambda: cluster.brokers["broker-a"].pulls.held() == 1)
    cluster.clock.advance(29.0)
    gevent.sleep(0.02)
    assert not waiting.ready()
    cluster.clock.advance(1.1)
    assert names(waiting.get(timeout=1)) == "PULL_NOT_FOUND"


def test_waits_end_with_their_connection(
    raw: RawClient, other: RawClient, cluster: EmbeddedCluster, greenlet_errors: list[str]
) -> None:
    cluster.create_topic(TOPIC)
    waiting = gevent.spawn(raw.pull, 0, hold=30.0)
    others = gevent.spawn(other.pull, 0, hold=30.0)
    wait_for(lambda: cluster.brokers["broker-a"].pulls.held() == 2)
    raw.remoting.forget(raw.broker)
    with pytest.raises(RemotingError):
        waiting.get(timeout=1)
    greenlet_errors.clear()
    wait_for(lambda: cluster.brokers["broker-a"].pulls.held() == 1)
    other.send(b"x")
    assert names(others.get(timeout=1)) == "SUCCESS"


def test_a_reset_is_told_once(raw: RawClient, cluster: EmbeddedCluster) -> None:
    for _ in range(5):
        raw.send()
    raw.heartbeat()
    cluster.brokers["broker-a"].offsets.resets[GROUP, TOPIC, 0] = 2
    assert query(raw) == ("SUCCESS", 2)
    assert raw.call(update_header(5)).remark == "Offset has been previously reset"
    assert pulled(raw, 5) == ("PULL_OFFSET_MOVED", "OFFSET_RESET", 2)
    assert pulled(raw, 5) == ("PULL_NOT_FOUND", "OFFSET_OVERFLOW_ONE", 5)


# Offsets


def query_header(group: str = GROUP, zero: bool | None = None, queue_id: int = 0) -> headers.QueryConsumerOffsetRequestHeader:
    return headers.QueryConsumerOffsetRequestHeader(
        consumer_group=group, topic=TOPIC, queue_id=queue_id, set_zero_if_not_found=zero
    )


def update_header(offset: int, group: str = GROUP, topic: str = TOPIC) -> headers.UpdateConsumerOffsetRequestHeader:
    return headers.UpdateConsumerOffsetRequestHeader(consumer_group=group, topic=topic, queue_id=0, commit_offset=offset)


def query(raw: RawClient, **more: object) -> tuple[str, int]:
    found = raw.call(query_header(**more))  # type: ignore[arg-type]
    return names(found), int((found.ext_fields or {}).get("offset") or -1)


def test_offsets_of_groups(raw: RawClient) -> None:
    raw.send()
    assert names(raw.call(update_header(1))) == "SUBSCRIPTION_GROUP_NOT_EXIST"
    raw.heartbeat()
    assert names(raw.call(update_header(1, topic="unknown"))) == "TOPIC_NOT_EXIST"
    assert query(raw) == ("SUCCESS", 0), "a young queue"
    assert query(raw, zero=False) == ("QUERY_NOT_FOUND", -1)
    assert query(raw, queue_id=1) == ("QUERY_NOT_FOUND", -1), "an empty queue"
    assert names(raw.call(update_header(3))) == "SUCCESS"
    assert query(raw) == ("SUCCESS", 3)
    raw.call(update_header(-7))
    assert query(raw) == ("SUCCESS", 0), "a negative offset counts as none"


def test_questions_about_queues(raw: RawClient) -> None:
    def ask(header: headers.CommandHeader) -> str | None:
        return next(iter((raw.call(header).ext_fields or {}).values()))

    before = time.time_ns() // 1_000_000
    for _ in range(3):
        raw.send()
    assert ask(headers.GetMaxOffsetRequestHeader(topic=TOPIC, queue_id=0)) == "3"
    assert ask(headers.GetMaxOffsetRequestHeader(topic="unknown", queue_id=99)) == "0"
    assert ask(headers.GetMinOffsetRequestHeader(topic=TOPIC, queue_id=0)) == "0"
    assert int(ask(headers.GetEarliestMsgStoretimeRequestHeader(topic=TOPIC, queue_id=0)) or 0) >= before
    assert ask(headers.GetEarliestMsgStoretimeRequestHeader(topic=TOPIC, queue_id=1)) == "-1"
    assert ask(headers.SearchOffsetRequestHeader(topic=TOPIC, queue_id=0, timestamp=0)) == "0"
    future = before + 1_000_000
    assert ask(headers.SearchOffsetRequestHeader(topic=TOPIC, queue_id=0, timestamp=future)) == "3"
    upper = headers.SearchOffsetRequestHeader(topic=TOPIC, queue_id=0, timestamp=future, boundary_type="UPPER")
    assert ask(upper) == "2"


def test_view(raw: RawClient) -> None:
    raw.send(b"look at me")
    (message,) = raw.messages()
    viewed = raw.call(headers.ViewMessageRequestHeader(topic=TOPIC, offset=message.commit_log_offset))
    assert decode_messages(viewed.body or b"")[0].body == b"look at me"
    nothing = raw.call(headers.ViewMessageRequestHeader(topic=TOPIC, offset=message.commit_log_offset + 1))
    assert names(nothing) == "SYSTEM_ERROR"


# Delays, retries, dead letters


def test_delay_level(raw: RawClient, cluster: EmbeddedCluster) -> None:
    sent = raw.send(b"late", queue_id=2, DELAY="3", TAGS="a")
    assert names(sent) == "SUCCESS"
    assert (sent.ext_fields or {})["queueId"] == "2"
    cluster.clock.advance(9.5)
    gevent.sleep(0.02)
    assert raw.messages(queue_id=2) == []
    waiting = gevent.spawn(raw.pull, 0, queue_id=2, hold=30.0, expression="a")
    wait_for(lambda: cluster.brokers["broker-a"].pulls.held() == 1)
    cluster.clock.advance(0.5)
    (message,) = decode_messages(waiting.get(timeout=1).body or b"")
    assert (message.body, message.queue_id) == (b"late", 2)
    assert message.properties["DELAY"] == "3"
    assert message.properties["REAL_TOPIC"] == TOPIC
    assert message.store_timestamp >= message.born_timestamp + 10_000


def test_a_level_beyond_the_last_is_the_last() -> None:
    with EmbeddedCluster(delay_levels=(0.01, 0.02)) as cluster:
        raw = RawClient(cluster.broker_address("broker-a"))
        raw.send(b"x", DELAY="99")
        wait_for(raw.messages)
        raw.close()


@pytest.mark.parametrize("name", ["TIMER_DELAY_SEC", "TIMER_DELAY_MS", "TIMER_DELIVER_MS"])
def test_timer_message(raw: RawClient, cluster: EmbeddedCluster, name: str) -> None:
    value = {"TIMER_DELAY_SEC": 60, "TIMER_DELAY_MS": 60_000, "TIMER_DELIVER_MS": cluster.clock.now_ms() + 60_000}[name]
    sent = raw.send(b"timed", **{name: str(value)})
    assert (sent.ext_fields or {})["recallHandle"]
    cluster.clock.advance(58.0)
    gevent.sleep(0.02)
    assert raw.messages() == []
    cluster.clock.advance(2.5)
    assert wait_for(raw.messages)[0].body == b"timed"


def test_a_time_in_the_past_is_now(raw: RawClient) -> None:
    sent = raw.send(b"x", TIMER_DELIVER_MS="1000")
    assert "recallHandle" not in (sent.ext_fields or {})
    assert len(raw.messages()) == 1


def send_back(raw: RawClient, offset: int, level: int = 0, most: int | None = 16) -> RemotingCommand:
    header = headers.ConsumerSendMsgBackRequestHeader(
        offset=offset, group=GROUP, delay_level=level, origin_topic=TOPIC, max_reconsume_times=most
    )
    return raw.call(header)


def test_sent_back_messages_come_again_later(raw: RawClient, cluster: EmbeddedCluster) -> None:
    raw.send(b"again", UNIQ_KEY="U")
    (first,) = raw.messages()
    assert names(send_back(raw, first.commit_log_offset)) == "SUCCESS"
    cluster.clock.advance(10.1)  # level 3 for the first time
    (second,) = wait_for(lambda: raw.messages(topic=RETRY))
    assert (second.body, second.reconsume_times, second.msg_id) == (b"again", 1, "U")
    assert second.properties["RETRY_TOPIC"] == TOPIC
    assert second.properties["ORIGIN_MESSAGE_ID"] == first.offset_msg_id
    send_back(raw, second.commit_log_offset)
    cluster.clock.advance(29.0)  # level 4
    gevent.sleep(0.02)
    assert len(raw.messages(topic=RETRY)) == 1
    cluster.clock.advance(1.1)
    third = wait_for(lambda: raw.messages(1, topic=RETRY))[0]
    assert third.reconsume_times == 2
    assert third.properties["ORIGIN_MESSAGE_ID"] == first.offset_msg_id


@pytest.mark.parametrize(("level", "most"), [(-1, 16), (0, 0)])
def test_dead_letters(raw: RawClient, level: int, most: int) -> None:
    raw.send(b"dead")
    (message,) = raw.messages()
    assert names(send_back(raw, message.commit_log_offset, level, most)) == "SUCCESS"
    (dead,) = raw.messages(topic=DLQ)
    assert dead.body == b"dead"
    assert dead.properties["RETRY_TOPIC"] == TOPIC


def test_send_back_of_nothing(raw: RawClient) -> None:
    raw.send()
    assert names(send_back(raw, 1)) == "SYSTEM_ERROR"


def test_a_client_sends_to_its_retry_topic(raw: RawClient) -> None:
    header = send_header(RETRY)
    header.reconsume_times, header.max_reconsume_times = 3, 3
    assert names(raw.call(header, b"alive")) == "SUCCESS"
    header.reconsume_times = 4
    assert names(raw.call(header, b"dead")) == "SUCCESS"
    assert [message.body for message in raw.messages(topic=RETRY)] == [b"alive"]
    assert [message.body for message in raw.messages(topic=DLQ)] == [b"dead"]


def test_ordered_groups_give_up_at_once(raw: RawClient) -> None:
    lock(raw, "client", 0)
    raw.call(send_header(RETRY), b"dead")
    assert [message.body for message in raw.messages(topic=DLQ)] == [b"dead"]


# Clients and groups


def consumers(raw: RawClient) -> list[str] | None:
    found = raw.call(headers.GetConsumerListByGroupRequestHeader(consumer_group=GROUP))
    return sorted(bodies.CONSUMER_LIST.decode(found.body)) if found.code == ResponseCode.SUCCESS else None


def test_members_come_and_go(raw: RawClient, other: RawClient, cluster: EmbeddedCluster) -> None:
    assert consumers(raw) is None
    beat = raw.heartbeat("one")
    assert beat.ext_fields == {"IS_SUPPORT_HEART_BEAT_V2": "true", "IS_SUB_CHANGE": "true"}
    assert wait_for(lambda: len(raw.notified)) == 1
    raw.heartbeat("one")
    other.heartbeat("two")
    assert consumers(raw) == ["one", "two"]
    wait_for(lambda: (len(raw.notified), len(other.notified)) == (2, 1))
    assert set(raw.notified) == {GROUP}
    other.call(headers.UnregisterClientRequestHeader(client_id="two", consumer_group=GROUP, producer_group="producers"))
    assert consumers(raw) == ["one"]
    wait_for(lambda: len(raw.notified) == 3)
    other.heartbeat("two")
    other.remoting.forget(other.broker)
    wait_for(lambda: consumers(raw) == ["one"])
    assert RETRY in cluster.brokers["broker-a"].topic_configs


def test_a_changed_subscription_is_told(raw: RawClient) -> None:
    raw.heartbeat("one")
    raw.heartbeat("one", subscription(TOPIC, "*", 1), subscription("second", "*", 1))
    wait_for(lambda: len(raw.notified) == 2)


def test_broadcasting_groups_are_told_nothing(raw: RawClient, other: RawClient) -> None:
    raw.heartbeat("one", broadcasting=True)
    other.heartbeat("two", broadcasting=True)
    assert consumers(raw) == ["one", "two"]
    assert raw.notified == []


def test_silent_clients_are_dropped(raw: RawClient, other: RawClient, cluster: EmbeddedCluster) -> None:
    raw.heartbeat("one")
    other.heartbeat("two")
    cluster.clock.advance(119.0)
    raw.heartbeat("one")
    cluster.clock.advance(12.0)
    wait_for(lambda: consumers(raw) == ["one"])
    wait_for(lambda: not other.remoting.addresses())


def test_check_of_a_subscription(raw: RawClient) -> None:
    def check(expression_type: str, expression: str = "a > 1") -> str:
        data = subscription(TOPIC, "*")
        body = CheckClientRequestBody("client", GROUP, type(data)(TOPIC, expression, expression_type=expression_type))
        return names(raw.call(headers.HeartbeatRequestHeader(), bodies.CHECK_CLIENT.encode(body), code=46))

    assert check("TAG") == "SUCCESS"
    assert check("SQL92") == "SUCCESS"
    assert check("SQL92", "a >") == "SUBSCRIPTION_PARSE_FAILED"
    assert check("OTHER") == "SUBSCRIPTION_PARSE_FAILED"


def lock(raw: RawClient, client_id: str, *queue_ids: int, code: int = RequestCode.LOCK_BATCH_MQ) -> list[int]:
    queues = tuple(MessageQueue(TOPIC, "broker-a", queue_id) for queue_id in queue_ids)
    body = bodies.LOCK_REQUEST.encode(LockBatchRequestBody(GROUP, client_id, queues))
    found = raw.call(headers.LockBatchMqRequestHeader(), body, code=code)
    return [queue.queue_id for queue in bodies.LOCK_RESPONSE.decode(found.body)] if found.body else []


def test_locks(raw: RawClient, cluster: EmbeddedCluster) -> None:
    assert lock(raw, "one", 0, 1) == [0, 1]
    assert lock(raw, "two", 1, 2) == [2]
    lock(raw, "two", 0, code=RequestCode.UNLOCK_BATCH_MQ)
    assert lock(raw, "two", 0) == [], "nobody gives back what is not his"
    lock(raw, "one", 0, code=RequestCode.UNLOCK_BATCH_MQ)
    assert lock(raw, "two", 0) == [0]
    cluster.clock.advance(59.0)
    assert lock(raw, "one", 1) == [1]
    cluster.clock.advance(2.0)
    assert lock(raw, "two", 1, 2) == [2], "one renewed his lock"
    cluster.clock.advance(61.0)
    assert lock(raw, "two", 1) == [1]


# Topics and the name server


def create_header(topic: str, queues: int = 3) -> headers.CreateTopicRequestHeader:
    return headers.CreateTopicRequestHeader(
        topic=topic,
        default_topic="TBW102",
        read_queue_nums=queues,
        write_queue_nums=queues,
        perm=6,
        topic_filter_type="SINGLE_TAG",
        attributes="+message.type=FIFO",
    )


def test_topics(raw: RawClient, cluster: EmbeddedCluster) -> None:
    assert names(raw.call(create_header("made"))) == "SUCCESS"
    config = bodies.TOPIC_CONFIG.decode(raw.call(headers.GetTopicConfigRequestHeader(topic="made")).body)
    assert (config.write_queue_nums, config.attributes) == (3, {"message.type": "FIFO"})
    assert names(raw.call(create_header("bad topic!"))) == "INVALID_PARAMETER"
    assert names(raw.call(create_header("TBW102"))) == "INVALID_PARAMETER"
    topics = raw.remoting.invoke(cluster.namesrv, RemotingCommand(RequestCode.GET_ALL_TOPIC_LIST_FROM_NAMESERVER), 3.0)
    assert {"made", "TBW102", "broker-a", "DefaultCluster"} <= set(bodies.TOPIC_LIST.decode(topics.body).topic_list)
    raw.send(topic="made")
    assert names(raw.call(headers.DeleteTopicRequestHeader(topic="made"))) == "SUCCESS"
    assert names(raw.pull(topic="made")) == "TOPIC_NOT_EXIST"
    assert names(raw.call(headers.GetRouteInfoRequestHeader(topic="made"), at=cluster.namesrv)) == "TOPIC_NOT_EXIST"


def test_route_json_goes_by_the_askers_version(raw: RawClient, cluster: EmbeddedCluster) -> None:
    header = headers.GetRouteInfoRequestHeader(topic="TBW102")
    new = raw.call(header, at=cluster.namesrv, version=401).body or b""
    old = raw.call(header, at=cluster.namesrv, version=400).body or b""
    header.accept_standard_json_only = True
    asked = raw.call(header, at=cluster.namesrv, version=400).body
    assert b'{"0":"127.' in new
    assert b'{0:"127.' in old
    assert asked == new
    assert bodies.TOPIC_ROUTE.decode(old) == bodies.TOPIC_ROUTE.decode(new)


def test_cluster_info_is_never_strict_json(raw: RawClient, cluster: EmbeddedCluster) -> None:
    info = raw.remoting.invoke(cluster.namesrv, RemotingCommand(RequestCode.GET_BROKER_CLUSTER_INFO), 3.0)
    assert b"{0:" in (info.body or b"")
    decoded = bodies.CLUSTER_INFO.decode(info.body)
    assert decoded.cluster_addr_table == {"DefaultCluster": ("broker-a",)}
    assert decoded.broker_addr_table["broker-a"].master == raw.broker


def test_order_configuration(raw: RawClient, cluster: EmbeddedCluster) -> None:
    config = headers.PutKVConfigRequestHeader(namespace="ORDER_TOPIC_CONFIG", key="TBW102", value="broker-a:2")
    raw.call(config, at=cluster.namesrv)
    route = raw.call(headers.GetRouteInfoRequestHeader(topic="TBW102"), at=cluster.namesrv)
    assert bodies.TOPIC_ROUTE.decode(route.body).order_topic_conf == "broker-a:2"


def test_unknown_codes(raw: RawClient, cluster: EmbeddedCluster) -> None:
    for address in (raw.broker, cluster.namesrv):
        assert names(raw.remoting.invoke(address, RemotingCommand(98765), 3.0)) == "REQUEST_CODE_NOT_SUPPORTED"


# The cluster as a whole


def test_many_brokers(raw: RawClient) -> None:
    with EmbeddedCluster(3) as cluster:
        cluster.create_topic("everywhere", queues=2)
        cluster.create_topic("once", brokers=["broker-b"])
        assert cluster.broker_names == ("broker-a", "broker-b", "broker-c")

        def route(topic: str) -> list[str]:
            found = raw.call(headers.GetRouteInfoRequestHeader(topic=topic), at=cluster.namesrv)
            return [data.broker_name for data in bodies.TOPIC_ROUTE.decode(found.body).queue_datas]

        assert route("everywhere") == ["broker-a", "broker-b", "broker-c"]
        assert route("once") == ["broker-b"]
        cluster.stop_broker("broker-b")
        assert route("everywhere") == ["broker-a", "broker-c"]
        cluster.start_broker("broker-b")
        assert route("once") == ["broker-b"]


def test_a_broker_keeps_its_data(raw: RawClient, cluster: EmbeddedCluster) -> None:
    raw.send(b"kept")
    raw.send(b"waits", DELAY="3")
    raw.heartbeat()
    raw.call(update_header(1))
    cluster.stop_broker("broker-a")
    with pytest.raises(RemotingError):
        raw.send()
    cluster.start_broker("broker-a")
    again = RawClient(cluster.broker_address("broker-a"))
    assert again.broker == raw.broker
    assert [message.body for message in again.messages()] == [b"kept"]
    assert query(again) == ("SUCCESS", 1)
    assert consumers(again) is None
    cluster.clock.advance(11.0)
    assert wait_for(lambda: again.messages(1))[0].body == b"waits"
    again.close()


def test_a_broker_may_lose_its_data(raw: RawClient, cluster: EmbeddedCluster) -> None:
    raw.send(b"lost", DELAY="1")
    raw.send(b"lost")
    cluster.stop_broker("broker-a", keep_data=False)
    cluster.start_broker("broker-a")
    again = RawClient(cluster.broker_address("broker-a"))
    assert names(again.pull()) == "TOPIC_NOT_EXIST"
    again.send(b"new")
    cluster.clock.advance(2.0)
    gevent.sleep(0.02)
    assert [message.body for message in again.messages()] == [b"new"]
    assert again.messages()[0].offset_msg_id == encode_offset_msg_id(b"\x7f\0\0\1", int(again.broker.partition(":")[2]), 0)
    again.close()


def test_the_name_server_comes_back(cluster: EmbeddedCluster) -> None:
    address = cluster.namesrv
    cluster.stop_namesrv()
    cluster.start_namesrv()
    assert cluster.namesrv == address
    client = RawClient(address)
    assert names(client.call(headers.GetRouteInfoRequestHeader(topic="TBW102"))) == "SUCCESS"
    client.close()


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_the_name_server_may_lose_its_data(tmp_path: Path, on_disk: bool) -> None:
    with (
        EmbeddedCluster(brokers=2, data=tmp_path if on_disk else None) as cluster,
        closing(RawClient(cluster.namesrv)) as client,
    ):
        cluster.create_topic(TOPIC)

        def found() -> int:
            route = client.call(headers.GetRouteInfoRequestHeader(topic=TOPIC))
            return len(bodies.TOPIC_ROUTE.decode(route.body).broker_datas) if names(route) == "SUCCESS" else 0

        client.call(headers.PutKVConfigRequestHeader(namespace="space", key="key", value="value"))
        cluster.stop_namesrv(keep_data=False)
        cluster.clock.advance(30)  # heartbeats that it misses
        gevent.sleep(0.02)
        cluster.start_namesrv()
        setting = client.call(headers.GetKVConfigRequestHeader(namespace="space", key="key"))
        assert (names(setting), found()) == ("QUERY_NOT_FOUND", 0)
        cluster.stop_broker("broker-b")
        cluster.start_broker("broker-b")
        assert found() == 1
        cluster.clock.advance(30)
        wait_for(lambda: found() == 2)


def test_clients_outlive_a_name_server_without_data(cluster: EmbeddedCluster) -> None:
    cluster.create_topic(TOPIC)
    at = cluster.namesrv
    with Producer("p", namesrv=at) as producer, Producer("p", namesrv=at, instance_name="later") as later:
        producer.send(Message(TOPIC, b"before"))
        cluster.stop_namesrv(keep_data=False)
        cluster.start_namesrv()
        producer.send(Message(TOPIC, b"by the route it has"))
        with pytest.raises(RouteNotFoundError):
            later.send(Message(TOPIC, b"no route"), timeout=1.0)
        cluster.clock.advance(30)
        gevent.sleep(0.02)
        later.send(Message(TOPIC, b"after"))


def test_start_and_stop_twice() -> None:
    cluster = EmbeddedCluster()
    cluster.start()
    cluster.start()
    address = cluster.namesrv
    cluster.stop()
    cluster.stop()
    assert "nothing" in repr(cluster)
    with cluster:
        assert cluster.namesrv == address


def test_it_starts_fast() -> None:
    began = time.perf_counter()
    with EmbeddedCluster(2):
        assert time.perf_counter() - began < 0.3


def test_it_says_what_it_is_for(caplog: pytest.LogCaptureFixture) -> None:
    with EmbeddedCluster():
        assert "development" in caplog.text


@pytest.mark.parametrize("brokers", [0, 27])
def test_number_of_brokers(brokers: int) -> None:
    with pytest.raises(ConfigError):
        EmbeddedCluster(brokers)


def test_ipv6_loopback() -> None:
    try:
        cluster = EmbeddedCluster(host="::1")
        cluster.start()
    except OSError:
        pytest.skip("no IPv6 loopback here")
    raw = RawClient(cluster.broker_address("broker-a"))
    sent = raw.send(b"six")
    assert len((sent.ext_fields or {})["msgId"] or "") == 56
    assert raw.messages()[0].born_host.startswith("[::1]:")
    raw.close()
    cluster.stop()


def test_the_oldest_messages_go(raw: RawClient) -> None:
    with EmbeddedCluster(max_bytes=200_000) as cluster:
        client = RawClient(cluster.broker_address("broker-a"))
        for _ in range(40):
            client.send(bytes(10_000))
        found = headers.PullMessageResponseHeader.parse(client.pull(0).ext_fields)
        assert 20 <= found.min_offset < 40 == found.max_offset
        client.close()


# Faults


def test_the_nth_request_is_answered(raw: RawClient, cluster: EmbeddedCluster) -> None:
    busy = answer(ResponseCode.SYSTEM_BUSY, "as asked for", {"a": "b"})
    fault = cluster.control(RequestCode.SEND_MESSAGE_V2, busy, nth=2, times=2)
    answers = [raw.send(b"%d" % number) for number in range(5)]
    assert [names(one) for one in answers] == ["SUCCESS", "SYSTEM_BUSY", "SYSTEM_BUSY", "SUCCESS", "SUCCESS"]
    assert (answers[1].remark, answers[1].ext_fields) == ("as asked for", {"a": "b"})
    assert (fault.seen, fault.taken) == (5, 2)
    assert [message.body for message in raw.messages()] == [b"0", b"3", b"4"]


def test_faults_of_one_server_and_of_some_requests(raw: RawClient, cluster: EmbeddedCluster) -> None:
    def about_other(request: RemotingCommand) -> bool:
        return (request.ext_fields or {}).get("b") == "other"

    elsewhere = cluster.control(None, fail(), times=None, at="namesrv")
    some = cluster.control(RequestCode.SEND_MESSAGE_V2, fail(), times=None, matches=about_other)
    assert names(raw.send()) == "SUCCESS"
    assert names(raw.send(topic="other")) == "SYSTEM_ERROR"
    route = headers.GetRouteInfoRequestHeader(topic="TBW102")
    assert names(raw.call(route, at=cluster.namesrv)) == "SYSTEM_ERROR"
    cluster.release(elsewhere)
    assert names(raw.call(route, at=cluster.namesrv)) == "SUCCESS"
    assert names(raw.send(topic="other")) == "SYSTEM_ERROR"
    assert some.taken == 2
    cluster.release()
    assert names(raw.send(topic="other")) == "SUCCESS"


def test_a_delayed_request_does_not_hold_up_others(raw: RawClient, cluster: EmbeddedCluster) -> None:
    cluster.control(RequestCode.SEND_MESSAGE_V2, delay(0.1))
    order: list[bytes] = []

    def send(body: bytes) -> None:
        raw.send(body)
        order.append(body)

    gevent.joinall([gevent.spawn(send, body) for body in (b"late", b"soon")], timeout=5)
    assert order == [b"soon", b"late"]
    assert [message.body for message in raw.messages()] == [b"soon", b"late"]


def test_a_dropped_request_seems_lost(raw: RawClient, cluster: EmbeddedCluster) -> None:
    fault = cluster.control(RequestCode.SEND_MESSAGE_V2, drop)
    lost = gevent.spawn(raw.send, b"lost")
    wait_for(lambda: fault.taken == 1)
    assert names(raw.send(b"next")) == "SUCCESS"
    assert not lost.ready()
    lost.kill()
    assert [message.body for message in raw.messages()] == [b"next"]


def test_a_connection_is_closed_on_request(raw: RawClient, cluster: EmbeddedCluster) -> None:
    raw.send(b"before")
    cluster.control(RequestCode.SEND_MESSAGE_V2, close)
    with pytest.raises(RemotingError):
        raw.send(b"lost")
    wait_for(lambda: not raw.remoting.addresses())
    assert names(raw.send(b"after")) == "SUCCESS"


def test_an_action_of_ones_own(raw: RawClient, cluster: EmbeddedCluster) -> None:
    seen = []

    def look(taken: object) -> None:
        seen.append(taken.request.code)  # type: ignore[attr-defined]
        taken.serve()  # type: ignore[attr-defined]

    cluster.control(None, look, times=None)
    raw.send()
    raw.pull()
    assert seen == [310, 11]


# Its clock


def test_timers_run_in_order_and_can_be_cancelled(cluster: EmbeddedCluster) -> None:
    timers = cluster.brokers["broker-a"]._timers
    ran: list[int] = []
    made = [timers.after(seconds, ran.append, seconds) for seconds in (3, 1, 2, 4)]
    made[2].cancel()
    made[2].cancel()
    cluster.clock.advance(3.5)
    wait_for(lambda: ran == [1, 3])
    cluster.clock.advance(1)
    wait_for(lambda: ran == [1, 3, 4])


def test_cancelled_timers_are_swept_out(cluster: EmbeddedCluster) -> None:
    timers = cluster.brokers["broker-a"]._timers
    for _ in range(5000):
        timers.after(1000, print).cancel()
    assert len(timers._heap) < 1100


def test_clock() -> None:
    clock = Clock()
    ms, seconds = clock.now_ms(), clock.monotonic()
    clock.advance(10)
    assert 10_000 <= clock.now_ms() - ms < 11_000
    assert 10 <= clock.monotonic() - seconds < 11
