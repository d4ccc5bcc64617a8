"""As test_embedded_like_real.py, for what brokers do only when they are told to, or soon: transactions, recalls and replies."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.model.message_id import decode_offset_msg_id
from grocketmq.model.properties import decode_properties
from grocketmq.model.recall_handle import decode_recall_handle, encode_recall_handle
from grocketmq.wire import headers
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.message_codec import decode_message
from tests.embedded.raw import send_header
from tests.helpers import wait_for

from .cluster import RealCluster
from .test_embedded_like_real import Answers, Script, compare

#: What differs each time, or with what was sent before: ids, and places in queues and logs.
PLACES = {"queueOffset", "tranStateTableOffset", "commitLogOffset", "offsetMsgId"}
PUSHED = {"bornHost", "storeHost", "storeTimestamp", "bornTimestamp"}


def half(script: Script, what: str, **properties: str) -> headers.EndTransactionRequestHeader:
    """Send a half message; what would commit it."""
    header = send_header(script.topic, TRAN_MSG="true", PGROUP="producers", UNIQ_KEY=f"{script.topic} {what}", **properties)
    header.sys_flag = 4
    header.flag = 7
    answer = script.note(what, script.raw.call(header, b"half"))
    ext = answer.ext_fields or {}
    return headers.EndTransactionRequestHeader(
        producer_group="producers",
        tran_state_table_offset=int(ext["queueOffset"] or ""),
        commit_log_offset=decode_offset_msg_id(ext["msgId"] or "").commit_log_offset,
        commit_or_rollback=8,
        msg_id=f"{script.topic} {what}",
    )


def changed(end: headers.EndTransactionRequestHeader, **values: Any) -> headers.EndTransactionRequestHeader:
    for name, value in values.items():
        setattr(end, name, value)
    return end


def ends(script: Script) -> None:
    def end(what: str, header: headers.EndTransactionRequestHeader) -> None:
        script.note(what, script.raw.call(header), remark=True)

    committed = half(script, "half", TAGS="a", own="1")
    script.pull("not there yet")
    end("commit", committed)
    end("commit again", committed)
    rolled_back = changed(half(script, "half to roll back"), commit_or_rollback=12)
    end("roll back", rolled_back)
    end("commit what was rolled back", changed(rolled_back, commit_or_rollback=8))
    other = half(script, "half that stays")
    end("another group", changed(other, producer_group="others"))
    other.producer_group = "producers"
    end("another place in the queue", changed(other, tran_state_table_offset=other.tran_state_table_offset + 1))
    end("no message there", changed(other, commit_log_offset=other.commit_log_offset + 1))
    immune = half(script, "half with its own time", CHECK_IMMUNITY_TIME_IN_SECONDS="1")
    time.sleep(2.1)  # it is not shorter than the broker's
    end("too late", immune)
    end("not too late", changed(immune, from_transaction_check=True))
    script.pull("committed")


def checks(script: Script) -> None:
    asked: list[RemotingCommand] = []

    def note(request: RemotingCommand, address: str) -> None:
        if script.topic in ((request.ext_fields or {}).get("msgId") or ""):  # there may be others of the group
            asked.append(request)

    script.raw.remoting.register_processor(RequestCode.CHECK_TRANSACTION_STATE, note)
    script.raw.heartbeat("client", group=script.group)
    half(script, "half", TAGS="a", own="1")
    wait_for(lambda: len(asked) >= 2, 30.0, "two checks")
    for request in asked[:2]:
        fields = {name: "..." if name in PLACES else value for name, value in (request.ext_fields or {}).items()}
        script.answers.append(("check", fields))
        message = decode_message(request.body or b"")
        place = (message.queue_offset, message.commit_log_offset)
        assert place == tuple(
            int((request.ext_fields or {})[name] or "") for name in ("tranStateTableOffset", "commitLogOffset")
        )
        said = (message.topic, message.queue_id, message.body, message.sys_flag, message.flag, message.properties)
        script.answers.append(("half message", said))


def recalls(script: Script) -> None:
    def recall(what: str, handle: str, topic: str = "") -> None:
        header = headers.RecallMessageRequestHeader(producer_group="p", topic=topic or script.topic, recall_handle=handle)
        script.note(what, script.raw.call(header))

    header = send_header(script.topic, TIMER_DELAY_MS="60000", UNIQ_KEY="U1")
    answer = script.note("timed", script.raw.call(header, b"timed"))
    handle = (answer.ext_fields or {})["recallHandle"] or ""
    parts = decode_recall_handle(handle)
    recall("recall", handle)
    recall("once more", handle)
    recall("another topic", encode_recall_handle(parts._replace(topic="other")))
    recall("another broker", encode_recall_handle(parts._replace(broker_name="other")))
    recall("another message", encode_recall_handle(parts._replace(message_id="other")))
    recall("in the past", encode_recall_handle(parts._replace(timestamp="1000")))
    recall("too far", encode_recall_handle(parts._replace(timestamp=str(1 << 60))))
    recall("no time", encode_recall_handle(parts._replace(timestamp="soon")))
    recall("no handle", "nothing")
    recall("unknown topic", handle, script.topic + "_unknown")


def replies(script: Script) -> None:
    """The client replies to itself, over one connection."""
    pushed: list[RemotingCommand] = []

    def note(request: RemotingCommand, address: str) -> RemotingCommand:
        pushed.append(request)
        refuse = (request.body or b"") == b"refuse"
        return RemotingCommand.response_to(request, ResponseCode.SYSTEM_ERROR if refuse else ResponseCode.SUCCESS)

    script.raw.remoting.register_processor(RequestCode.PUSH_REPLY_MESSAGE_TO_CLIENT, note)
    script.raw.heartbeat(f"client {script.topic}", group=script.group)
    topic = "DefaultCluster_REPLY_TOPIC"
    known = {"MSG_TYPE": "reply", "CORRELATION_ID": "1", "REPLY_TO_CLIENT": f"client {script.topic}", "TTL": "3000"}

    def reply(what: str, body: bytes = b"reply", topic: str = topic, queue_id: int = 0, **properties: str) -> None:
        header = send_header(topic, queue_id, **properties)
        header.sys_flag, header.flag = 0x301, 7
        answer = script.raw.call(header, body, code=RequestCode.SEND_REPLY_MESSAGE_V2)
        script.note(what, answer, remark=answer.code != ResponseCode.INVALID_PARAMETER)

    reply("reply", **known)
    reply("refused", b"refuse", **known)
    reply("to somebody unknown", **{**known, "REPLY_TO_CLIENT": "nobody"})
    reply("to nobody", CORRELATION_ID="1")
    reply("bad topic", topic="bad topic!", **known)
    reply("no such queue", queue_id=99, **known)
    for request in pushed:
        fields = {name: "..." if name in PUSHED else value for name, value in (request.ext_fields or {}).items()}
        properties = decode_properties(fields.pop("properties") or "")
        assert properties.pop("PUSH_REPLY_TIME").isdecimal()
        script.answers.append(("pushed", (request.is_oneway, fields, properties, request.body)))


@pytest.mark.parametrize("run", [ends, checks, recalls, replies])
def test_answers_are_alike(run: Callable[[Script], None], small_cluster: RealCluster, topic_name: str, group_name: str) -> None:
    small_cluster.create_topic(topic_name)
    settings = {"transaction_timeout": 2.0, "transaction_check_interval": 1.0, "recall_messages": True}
    with EmbeddedCluster(auto_create_topics=False, **settings) as embedded:
        embedded.create_topic(topic_name)
        compare(run, (small_cluster, embedded), topic_name, group_name, without_places)


def without_places(answers: Answers) -> Answers:
    return [(what, _without_places(answer)) for what, answer in answers]


def _without_places(answer: Any) -> Any:
    if isinstance(answer, tuple) and len(answer) == 3 and isinstance(answer[1], dict):
        code, ext, remark = answer
        return code, {name: "..." if name in PLACES else value for name, value in ext.items()}, remark
    return answer
