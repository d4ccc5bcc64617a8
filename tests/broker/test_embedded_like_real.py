"""The same requests to a real broker and to the embedded one: the answers must be alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from grocketmq.codes import RequestCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.model.message import Message
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import subscription
from grocketmq.wire import bodies, headers
from grocketmq.wire.bodies import LockBatchRequestBody
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.message_codec import decode_messages, encode_batch
from grocketmq.wire.pop_info import ORDER_REVIVE_QUEUE
from tests.embedded.raw import RawClient, pop_header, send_header
from tests.embedded.sql_cases import CASES, fill, taken
from tests.helpers import wait_for

from .clients import broker_config
from .cluster import RealCluster

#: Fields and properties whose values are different each time.
VARYING = {
    "msgId",
    "transactionId",
    "timestamp",
    "recallHandle",
    "UNIQ_KEY",
    "ORIGIN_MESSAGE_ID",
    "TIMER_OUT_MS",
    "TIMER_ENQUEUE_MS",
    "TIMER_DEQUEUE_MS",
    "popTime",
    "reviveQid",
    "1ST_POP_TIME",
}
FAR = 1 << 45

#: What was asked, and the answer.
Answers = list[tuple[str, Any]]


def masked(name: str, value: str | None) -> str | None:
    """A value to be compared."""
    return "..." if name in VARYING else value


def alike(answer: RemotingCommand, *, remark: bool = False) -> tuple[Any, ...]:
    """What must be the same of two answers."""
    ext = {name: masked(name, value) for name, value in (answer.ext_fields or {}).items()}
    return (answer.code, ext, answer.remark if remark else None)


class Script:
    """One client with a topic and a group, at either broker."""

    def __init__(self, raw: RawClient, topic: str, group: str) -> None:
        self.raw = raw
        self.topic = topic
        self.group = group
        self.answers: Answers = []

    def note(self, what: str, answer: RemotingCommand, *, remark: bool = False) -> RemotingCommand:
        self.answers.append((what, alike(answer, remark=remark)))
        return answer

    def send(self, what: str, body: bytes | None = b"body", change: dict[str, Any] | None = None, **properties: str) -> None:
        header = send_header(self.topic, **properties)
        for name, value in (change or {}).items():
            setattr(header, name, value)
        self.note(what, self.raw.call(header, body))

    def pull(self, what: str, offset: int = 0, **more: Any) -> list[Any]:
        more.setdefault("topic", self.topic)
        answer = self.note(what, self.raw.pull(offset, group=self.group, **more))
        messages = decode_messages(answer.body or b"")
        for message in messages:
            properties = {name: masked(name, value) for name, value in message.properties.items()}
            self.answers.append(
                (
                    f"{what}: message",
                    (message.body, message.queue_offset, message.sys_flag, message.reconsume_times, message.flag, properties),
                )
            )
        return messages


def sends(script: Script) -> None:
    script.send("plain", TAGS="a", KEYS="k", UNIQ_KEY="U1")
    script.send("without an id")
    script.send("flag and sys flag", change={"flag": 7, "sys_flag": 2})
    script.send("any queue", change={"queue_id": -1, "topic": script.topic + "_one", "default_topic_queue_nums": 1})
    script.send("queue too large", change={"queue_id": 99})
    script.send("unknown default topic", change={"topic": script.topic + "_x", "default_topic": "nothing"})
    script.send("broker's own topic", change={"topic": "SCHEDULE_TOPIC_XXXX"})
    script.send("bad topic", change={"topic": "bad topic!"})
    script.send("body too large", bytes((4 << 20) + 1))
    script.send("properties too large", big="p" * 33000)
    script.send("to the retry topic", change={"topic": f"%RETRY%{script.group}"})
    batch = send_header(script.topic, WAIT="true", shared="by all")
    batch.batch = True
    body = encode_batch([Message(script.topic, b"%d" % number, tags="b") for number in range(3)])
    answer = script.raw.call(batch, body, code=RequestCode.SEND_BATCH_MESSAGE)
    script.note("batch", answer)
    assert len(((answer.ext_fields or {})["msgId"] or "").split(",")) == 3
    script.pull("all")
    script.pull("the retry topic", topic=f"%RETRY%{script.group}")


def pulls(script: Script) -> None:
    for number in range(5):
        script.send("send", b"%d" % number, TAGS="ab"[number % 2])
    for offset in (-1, 0, 4, 5, 6, 100):
        script.pull(f"at {offset}", offset)
    script.pull("tag", expression="b")
    script.pull("tags", expression="b || a")
    script.pull("no such tag", expression="other")
    script.pull("no tag", expression="||")
    script.pull("two", max_msg_nums=2)
    script.pull("none", max_msg_nums=0)
    script.pull("empty queue", queue_id=1)
    script.pull("beyond an empty queue", 5, queue_id=1)
    script.pull("queue too large", queue_id=99)
    script.pull("negative queue", queue_id=-1)
    script.pull("unknown topic", topic=script.topic + "_unknown")
    script.pull("not registered", expression=None)
    script.pull("held to its end", 5, hold=0.2)
    script.pull("commits", 5, commit_offset=3)
    script.note("committed", script.raw.call(offset_query(script)))


def offset_query(script: Script, zero: bool | None = None, queue_id: int = 0, topic: str = "") -> headers.CommandHeader:
    return headers.QueryConsumerOffsetRequestHeader(
        consumer_group=script.group, topic=topic or script.topic, queue_id=queue_id, set_zero_if_not_found=zero
    )


def offset_update(script: Script, offset: int, topic: str = "", group: str = "") -> headers.CommandHeader:
    return headers.UpdateConsumerOffsetRequestHeader(
        consumer_group=group or script.group, topic=topic or script.topic, queue_id=0, commit_offset=offset
    )


def offsets(script: Script) -> None:
    call = script.raw.call
    for _ in range(3):
        script.send("send")
    script.note("unknown group", call(offset_update(script, 1)))
    script.raw.heartbeat("client", group=script.group)
    script.note("none yet", call(offset_query(script)))
    script.note("none yet, and no zero", call(offset_query(script, zero=False)))
    script.note("empty queue", call(offset_query(script, queue_id=1)))
    script.note("unknown topic", call(offset_query(script, topic=script.topic + "_unknown")))
    for offset in (2, 1, -5):
        script.note(f"update to {offset}", call(offset_update(script, offset)))
        script.note("query", call(offset_query(script)))
    script.note("update of an unknown topic", call(offset_update(script, 1, topic=script.topic + "_unknown")))
    for queue_id in (0, 1, 99):
        place = {"topic": script.topic, "queue_id": queue_id}
        script.note(f"max {queue_id}", call(headers.GetMaxOffsetRequestHeader(**place)))
        script.note(f"min {queue_id}", call(headers.GetMinOffsetRequestHeader(**place)))
        for boundary in (None, "UPPER"):
            for when in (0, FAR):
                search = headers.SearchOffsetRequestHeader(**place, timestamp=when, boundary_type=boundary)
                script.note(f"search {queue_id} {boundary} {when}", call(search))
    earliest = headers.GetEarliestMsgStoretimeRequestHeader(topic=script.topic, queue_id=0)
    script.note("earliest", call(earliest))


def groups(script: Script) -> None:
    call = script.raw.call
    listing = headers.GetConsumerListByGroupRequestHeader(consumer_group=script.group)
    script.note("no member", call(listing))
    script.send("send", TAGS="a")
    script.note("heartbeat", script.raw.heartbeat("client", subscription(script.topic, "a", 5), group=script.group))
    found = script.note("members", call(listing))
    script.answers.append(("ids", bodies.CONSUMER_LIST.decode(found.body)))
    script.pull("as subscribed", expression=None, sub_version=5)
    script.pull("newer than known", expression=None, sub_version=6)
    script.pull("not subscribed", expression=None, topic=script.topic + "_one")
    queues = tuple(MessageQueue(script.topic, "broker-a", queue_id) for queue_id in (0, 1))

    def lock(client_id: str, code: int) -> None:
        body = bodies.LOCK_REQUEST.encode(LockBatchRequestBody(script.group, client_id, queues))
        answer = script.note(f"{code} by {client_id}", call(headers.LockBatchMqRequestHeader(), body, code=code))
        if answer.body:
            got = sorted(queue.queue_id for queue in bodies.LOCK_RESPONSE.decode(answer.body))
            script.answers.append(("locked", got))

    for client_id, code in (("one", 41), ("two", 41), ("two", 42), ("two", 41), ("one", 42), ("two", 41), ("two", 42)):
        lock(client_id, code)
    script.note("leave", call(headers.UnregisterClientRequestHeader(client_id="client", consumer_group=script.group)))
    script.note("nobody left", call(listing))
    script.note("bad heartbeat", call(headers.HeartbeatRequestHeader(), b"{not json"))


def send_backs(script: Script) -> None:
    call = script.raw.call
    script.send("send", b"again", TAGS="a", KEYS="k", UNIQ_KEY="U")
    (message,) = script.pull("first")

    def back(what: str, offset: int, level: int, most: int | None) -> None:
        header = headers.ConsumerSendMsgBackRequestHeader(
            offset=offset, group=script.group, delay_level=level, origin_topic=script.topic, max_reconsume_times=most
        )
        script.note(what, call(header))

    back("not a message", message.commit_log_offset + 1, 1, 16)
    back("to the dead letters", message.commit_log_offset, -1, 16)
    back("no try left", message.commit_log_offset, 0, 0)
    back("again in a second", message.commit_log_offset, 1, 16)
    script.pull("dead letters", topic=f"%DLQ%{script.group}")
    retry = f"%RETRY%{script.group}"
    script.pull("retry", topic=retry, hold=5.0)
    script.send("delayed", b"late", DELAY="1", TAGS="a")
    script.pull("delayed", 1, hold=5.0)
    script.send("timed", b"timed", TIMER_DELAY_MS="1200", UNIQ_KEY="T")
    script.pull("timed", 2, hold=5.0)
    script.send("timed in the past", b"past", TIMER_DELIVER_MS="1000")
    script.pull("timed in the past", 3, hold=5.0)
    script.send("timed too far", b"never", TIMER_DELAY_SEC="360000")
    script.send("timed with a level", b"level", TIMER_DELAY_SEC="360000", DELAY="1")
    script.pull("timed with a level", 4, hold=5.0)


class Popper:
    """Pops of one queue, whose check points are made here of what the answers tell."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.answer = headers.PopMessageResponseHeader(pop_time=0, invisible_time=0, revive_qid=0, rest_num=0)

    def pop(self, what: str, **more: Any) -> list[Any]:
        script = self.script
        header = pop_header(script.topic, group=script.group, **{"invisible": 30.0, **more})
        answer = script.raw.call(header)
        script.note(what, answer, remark=answer.code in (0, 210) and "timeout" not in (answer.remark or ""))
        if answer.code != 0:
            return []
        self.answer = headers.PopMessageResponseHeader.parse(answer.ext_fields)
        messages = decode_messages(answer.body or b"")
        for message in messages:
            properties = {name: masked(name, value) for name, value in message.properties.items()}
            if point := properties.get("POP_CK"):
                start, _, invisible, _, *rest = point.split()
                properties["POP_CK"] = " ".join([start, invisible, *rest])
            place = (message.topic, message.body, message.queue_offset, message.reconsume_times, message.sys_flag)
            script.answers.append((f"{what}: message", (place, properties)))
        return messages

    def wait_for_messages(self, count: int) -> None:
        """A real broker shows a message to consumers a moment after it answered the sender."""
        header = headers.GetMaxOffsetRequestHeader(topic=self.script.topic, queue_id=0)
        wait_for(lambda: (self.script.raw.call(header).ext_fields or {})["offset"] == str(count))

    def check_point(self, start: int, offset: int) -> str:
        found = self.answer
        return f"{start} {found.pop_time} {found.invisible_time} {found.revive_qid} 0 broker-a 0 {offset}"

    def about(self, start: int, offset: int, **more: Any) -> dict[str, Any]:
        script = self.script
        fields = {"consumer_group": script.group, "topic": script.topic, "queue_id": 0, "offset": offset}
        return {**fields, "extra_info": self.check_point(start, offset), **more}

    def ack(self, what: str, start: int, offset: int, **more: Any) -> None:
        header = headers.AckMessageRequestHeader(**self.about(start, offset, **more))
        self.script.note(what, self.script.raw.call(header))

    def change(self, what: str, start: int, offset: int, seconds: float = 30.0, **more: Any) -> None:
        header = headers.ChangeInvisibleTimeRequestHeader(
            **self.about(start, offset, **more), invisible_time=round(seconds * 1000)
        )
        answer = self.script.raw.call(header)
        if answer.ext_fields and self.answer.revive_qid == ORDER_REVIVE_QUEUE:
            answer.ext_fields["invisibleTime"] = "..."  # counted from the pop
        self.script.note(what, answer)

    def batch_ack(self, what: str, start: int, bits: int) -> None:
        script, found = self.script, self.answer
        ack = bodies.BatchAck(
            script.group, script.topic, "0", start, 0, found.revive_qid, found.pop_time, found.invisible_time, bits
        )
        body = bodies.BATCH_ACK.encode(bodies.BatchAckMessageRequestBody("broker-a", (ack,)))
        header = headers.HeartbeatRequestHeader()
        script.note(what, script.raw.call(header, body, code=RequestCode.BATCH_ACK_MESSAGE))


def pops(script: Script) -> None:
    script.send("creates the topic")
    popper = Popper(script)
    for number in range(6):
        script.send("send", b"%d" % number, TAGS="ab"[number % 2], UNIQ_KEY=f"U{number}")
    popper.wait_for_messages(7)
    popper.pop("two", most=2)
    popper.ack("first", 0, 0)
    popper.ack("first again", 0, 0)
    popper.ack("beyond", 0, 99)
    popper.ack("no such queue", 0, 0, queue_id=99)
    popper.ack("no such topic", 0, 0, topic=script.topic + "_unknown")
    popper.ack("no check point", 0, 0, extra_info="0 1 2")
    popper.change("longer", 0, 1)
    popper.change("beyond", 0, 99)
    popper.change("no such queue", 0, 0, queue_id=99)
    popper.pop("tag", exp_type="TAG", exp="b")
    popper.batch_ack("batch", 2, 0b11111)
    popper.pop("nothing left")
    popper.pop("held to its end", hold=0.3)
    popper.pop("too late", born_time=1)
    popper.pop("too many", most=33)
    popper.pop("no such queue", queue_id=99)
    popper.pop("no tag", exp_type="TAG", exp="||")
    script.note("committed", script.raw.call(offset_query(script)))
    script.send("send", b"again", KEYS="k", UNIQ_KEY="UA")
    popper.wait_for_messages(8)
    popper.pop("short", invisible=1.0)
    popper.pop("comes again", hold=14.0)
    place = {"consumer_group": script.group, "topic": script.topic, "queue_id": 0}
    script.note("polling", script.raw.call(headers.PollingInfoRequestHeader(**place)))
    notify = headers.NotificationRequestHeader(**place, poll_time=0, born_time=0)
    script.note("nothing", script.raw.call(notify))
    script.send("send", b"more", UNIQ_KEY="UB")
    popper.wait_for_messages(9)
    script.note("something", script.raw.call(notify))
    script.note("peek", script.raw.call(headers.PeekMessageRequestHeader(**place, max_msg_nums=2)))


def ordered_pops(script: Script) -> None:
    popper = Popper(script)
    for number in range(4):
        script.send("send", b"%d" % number, UNIQ_KEY=f"U{number}")
    popper.wait_for_messages(4)
    popper.pop("two", most=2, order=True, attempt_id="one")
    popper.pop("blocked", most=2, order=True, attempt_id="other")
    popper.pop("the same again", most=2, order=True, attempt_id="one")
    popper.ack("first", 0, 0)
    popper.pop("still blocked", most=2, order=True, attempt_id="other")
    popper.change("soon", 0, 1, 0.2)
    popper.pop("comes again", most=2, order=True, hold=10.0, attempt_id="other")
    popper.ack("second", 1, 1)
    popper.ack("third", 1, 2)
    popper.ack("not out", 1, 3)
    popper.pop("the last", most=2, order=True, attempt_id="third")
    script.note("committed", script.raw.call(offset_query(script)))


def mask_schedule_offset(answers: Answers) -> Answers:
    """A delayed message's place in the broker's own queue depends on what else waits there."""
    return [
        (what, (answer[0], {**answer[1], "queueOffset": "..."}, None))
        if what in ("delayed", "timed", "timed with a level") and answer[1].get("msgId")
        else (what, answer)
        for what, answer in answers
    ]


def compare(
    run: Callable[[Script], None],
    clusters: tuple[RealCluster, EmbeddedCluster],
    topic: str,
    group: str,
    mask: Callable[[Answers], Answers],
) -> None:
    """Run a script at both and compare the answers.

    :param mask: takes out what may differ.
    """
    answers = []
    for cluster in clusters:
        with closing(RawClient(cluster.broker_address("broker-a"))) as raw:
            script = Script(raw, topic, group)
            run(script)
        answers.append(mask(script.answers))
    real, ours = answers
    assert [what for what, _ in ours] == [what for what, _ in real], real
    differences = [(what, mine, theirs) for (what, mine), (_, theirs) in zip(ours, real, strict=True) if mine != theirs]
    assert differences == [], "\n".join(map(str, differences))


@pytest.fixture
def embedded() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(2) as cluster:
        yield cluster


@pytest.mark.parametrize("run", [sends, pulls, offsets, groups, send_backs, pops, ordered_pops])
def test_answers_are_alike(
    run: Callable[[Script], None], real_cluster: RealCluster, embedded: EmbeddedCluster, topic_name: str, group_name: str
) -> None:
    compare(run, (real_cluster, embedded), topic_name, group_name, mask_schedule_offset)


def test_sql_filters(real_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    """The real broker's word on the cases by which the embedded one is tested."""
    raw = RawClient(real_cluster.broker_address("broker-a"))
    try:
        with broker_config(real_cluster, "enablePropertyFilter", True, False):
            fill(raw, topic_name)
            found = {text: taken(raw, topic_name, group_name, text) for text in CASES}
    finally:
        raw.close()
    assert {text: (ours, found[text]) for text, ours in CASES.items() if ours != found[text]} == {}
