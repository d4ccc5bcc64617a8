"""A cluster with a directory: what is there after it was stopped, and what happens when the disk fails."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest

from grocketmq import LocalTransactionState, Message, MessageExt, Producer, TransactionProducer
from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded import journal as journal_module
from grocketmq.embedded.journal import Journal, LoggedMessage
from grocketmq.errors import ConfigError
from grocketmq.wire import headers
from grocketmq.wire.bodies import MessageRequestMode
from grocketmq.wire.message_codec import decode_messages
from tests.embedded.raw import GROUP, TOPIC, RawClient, names
from tests.embedded.test_pop import set_mode
from tests.helpers import wait_for


@contextmanager
def serving(data: Path, **settings: Any) -> Iterator[tuple[EmbeddedCluster, RawClient]]:
    """A cluster with this directory, and a client of its broker; nothing of it is left in memory afterwards."""
    with EmbeddedCluster(data=data, **settings) as cluster:
        raw = RawClient(cluster.broker_address("broker-a"))
        try:
            yield cluster, raw
        finally:
            raw.close()


def update(raw: RawClient, offset: int) -> str:
    header = headers.UpdateConsumerOffsetRequestHeader(consumer_group=GROUP, topic=TOPIC, queue_id=0, commit_offset=offset)
    return names(raw.call(header))


def test_everything_is_there_again(tmp_path: Path) -> None:
    with serving(tmp_path, brokers=2) as (cluster, raw):
        cluster.create_topic("own", queues=7, brokers=["broker-b"])
        sent = [raw.send(b"%d" % number, queue_id=number % 2, TAGS="ab"[number % 2]) for number in range(50)]
        raw.heartbeat()
        assert update(raw, 7) == "SUCCESS"
        assert set_mode(raw, MessageRequestMode.POP) == "SUCCESS"
        raw.call(headers.PutKVConfigRequestHeader(namespace="n", key="k", value="v"), at=cluster.namesrv)
        address = cluster.broker_address("broker-a")
        view = headers.ViewMessageRequestHeader(offset=int(((sent[5].ext_fields or {})["msgId"] or "")[-16:], 16))
        frame = raw.call(view).body
    with serving(tmp_path, brokers=2) as (cluster, raw):
        assert cluster.broker_address("broker-a") == address
        assert [message.body for message in raw.messages()] == [b"%d" % number for number in range(0, 50, 2)][:32]
        tagged = raw.pull(queue_id=1, expression="b")
        assert len(decode_messages(tagged.body or b"")) == 25
        query = headers.QueryConsumerOffsetRequestHeader(consumer_group=GROUP, topic=TOPIC, queue_id=0)
        assert (raw.call(query).ext_fields or {})["offset"] == "7"
        assert cluster.brokers["broker-b"].topic_configs["own"].read_queue_nums == 7
        assert "own" not in cluster.brokers["broker-a"].topic_configs
        assert cluster.brokers["broker-a"].shares.modes[TOPIC, GROUP].mode is MessageRequestMode.POP
        kv = raw.call(headers.GetKVConfigRequestHeader(namespace="n", key="k"), at=cluster.namesrv)
        assert (kv.ext_fields or {})["value"] == "v"
        assert raw.call(view).body == frame
        assert (raw.send(b"next").ext_fields or {})["queueOffset"] == "25"


def test_a_broker_that_is_stopped_and_started(tmp_path: Path) -> None:
    with serving(tmp_path) as (cluster, raw):
        raw.send(b"kept")
        cluster.stop_broker("broker-a")
        cluster.start_broker("broker-a")
        assert [message.body for message in raw.messages()] == [b"kept"]
        cluster.stop_broker("broker-a", keep_data=False)
        cluster.start_broker("broker-a")
        assert names(raw.pull()) == "TOPIC_NOT_EXIST"
        raw.send(b"new")
    with serving(tmp_path) as (cluster, raw):
        assert [message.body for message in raw.messages()] == [b"new"]


@pytest.mark.parametrize("started", [True, False], ids=["was started", "never started"])
def test_data_of_what_is_stopped_is_dropped(tmp_path: Path, started: bool) -> None:
    with serving(tmp_path) as (cluster, raw):
        raw.send(b"old")
        raw.call(headers.PutKVConfigRequestHeader(namespace="n", key="k", value="v"), at=cluster.namesrv)
        cluster.stop_broker("broker-a")
    if not started:
        cluster = EmbeddedCluster(data=tmp_path)
    cluster.stop_broker("broker-a", keep_data=False)
    cluster.stop_namesrv(keep_data=False)
    with serving(tmp_path) as (cluster, raw):
        assert names(raw.pull()) == "TOPIC_NOT_EXIST"
        setting = headers.GetKVConfigRequestHeader(namespace="n", key="k")
        assert names(raw.call(setting, at=cluster.namesrv)) == "QUERY_NOT_FOUND"


def test_nothing_to_drop(tmp_path: Path) -> None:
    EmbeddedCluster(data=tmp_path / "none").stop_broker("broker-a", keep_data=False)
    assert not (tmp_path / "none").exists()


def test_messages_that_wait(tmp_path: Path) -> None:
    with serving(tmp_path, delay_levels=(2.0, 3600.0), recall_messages=True) as (cluster, _):
        with Producer("p", namesrv=cluster.namesrv) as producer:
            producer.send(Message(TOPIC, b"soon", delay_level=1))
            producer.send(Message(TOPIC, b"late", delay_level=2))
            producer.send(Message(TOPIC, b"timed", delay=600))
            recalled = producer.send(Message(TOPIC, b"recalled", delay=600))
            producer.recall(TOPIC, recalled.recall_handle or "")
        cluster.clock.advance(3)
        broker = cluster.brokers["broker-a"]
        wait_for(lambda: sum(broker.store.queue(TOPIC, number).max_offset for number in range(4)) == 1)
    with serving(tmp_path, delay_levels=(2.0, 3600.0)) as (cluster, _):
        broker = cluster.brokers["broker-a"]

        def delivered() -> list[bytes]:
            frames = [frame for number in range(4) for frame in broker.store.queue(TOPIC, number).frames()]
            return sorted(message.body for message in decode_messages(b"".join(frames)))

        gevent.sleep(0.05)
        assert delivered() == [b"soon"], "what was delivered is not delivered again"
        cluster.clock.advance(700)
        wait_for(lambda: delivered() == [b"soon", b"timed"])
        cluster.clock.advance(3000)
        wait_for(lambda: delivered() == [b"late", b"soon", b"timed"])


def test_what_was_popped_and_not_acknowledged_comes_again(tmp_path: Path) -> None:
    with serving(tmp_path) as (_, raw):
        for number in range(3):
            raw.send(b"%d" % number)
        answer = headers.PopMessageResponseHeader.parse(raw.pop(most=2).ext_fields)
        point = f"0 {answer.pop_time} {answer.invisible_time} {answer.revive_qid} 0 broker-a 0 0"
        ack = headers.AckMessageRequestHeader(consumer_group=GROUP, topic=TOPIC, queue_id=0, extra_info=point, offset=0)
        assert names(raw.call(ack)) == "SUCCESS"
    with serving(tmp_path) as (cluster, raw):
        wait_for(lambda: cluster.brokers["broker-a"].store.queue(f"%RETRY%{GROUP}_{TOPIC}", 0).max_offset == 1)
        found = decode_messages(raw.pop().body or b"")
        assert sorted((message.body, message.reconsume_times) for message in found) == [(b"1", 1), (b"2", 0)]


def test_half_messages(tmp_path: Path) -> None:
    """One that nobody has ended is asked for after the restart; one that was committed is not."""
    asked: list[bytes] = []

    def check(message: MessageExt) -> LocalTransactionState:
        asked.append(message.body)
        return LocalTransactionState.COMMIT

    def execute(message: Message, arg: object) -> LocalTransactionState:
        return LocalTransactionState.COMMIT if message.body == b"committed" else LocalTransactionState.UNKNOWN

    def transactions(cluster: EmbeddedCluster) -> TransactionProducer:
        return TransactionProducer("t", namesrv=cluster.namesrv, execute=execute, check=check)

    def stored(cluster: EmbeddedCluster) -> list[bytes]:
        store = cluster.brokers["broker-a"].store
        frames = [frame for number in range(4) for frame in store.queue(TOPIC, number).frames()]
        return sorted(message.body for message in decode_messages(b"".join(frames)))

    with serving(tmp_path) as (cluster, _), transactions(cluster) as producer:
        for body in (b"committed", b"open"):
            producer.send_in_transaction(Message(TOPIC, body))
        wait_for(lambda: stored(cluster) == [b"committed"])
    with serving(tmp_path) as (cluster, raw), transactions(cluster) as producer:
        raw.messages()
        producer.send_in_transaction(Message(TOPIC, b"committed"))  # has the broker know the producer
        cluster.clock.advance(60)
        wait_for(lambda: stored(cluster) == [b"committed", b"committed", b"open"])
        assert asked == [b"open"]


def test_a_deleted_topic_stays_deleted(tmp_path: Path) -> None:
    with serving(tmp_path) as (_, raw):
        raw.send(b"x")
        raw.call(headers.DeleteTopicRequestHeader(topic=TOPIC))
        raw.send(b"other", topic="other")
    with serving(tmp_path) as (_, raw):
        assert names(raw.pull()) == "TOPIC_NOT_EXIST"
        assert (raw.send(b"again").ext_fields or {})["queueOffset"] == "0"


def test_a_bounded_log_gives_no_offset_twice(tmp_path: Path) -> None:
    with serving(tmp_path, max_bytes=20_000) as (_, raw):
        raw.send(b"first", queue_id=1)
        for _ in range(200):
            raw.send(bytes(500))
    kept = sqlite3.connect(tmp_path / "broker-a.sqlite")
    assert kept.execute("SELECT count(*) FROM log").fetchone()[0] < 60
    kept.close()
    with serving(tmp_path, max_bytes=20_000) as (_, raw):
        assert (raw.send().ext_fields or {})["queueOffset"] == "200"
        assert (raw.send(queue_id=1).ext_fields or {})["queueOffset"] == "1"


def test_an_answer_waits_until_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    write = Journal._write

    def slow(self: Journal, statements: list[Any]) -> None:
        import time

        time.sleep(0.1)  # in the thread
        write(self, statements)
        written.append(len(statements))

    with serving(tmp_path) as (cluster, raw):
        monkeypatch.setattr(Journal, "_write", slow)
        hub_goes_on = gevent.spawn(gevent.sleep, 0.05)
        raw.send(b"x")
        assert written
        assert hub_goes_on.ready()
        asked = [gevent.spawn(raw.send, b"%d" % number) for number in range(200)]
        gevent.joinall(asked, timeout=10)
        assert {names(one.get(timeout=0)) for one in asked} == {"SUCCESS"}
        assert len(written) < 10, "many are written at once"
        cluster.stop_broker("broker-a")


def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_RETRY_PAUSE", 0.01)
    write = Journal._write

    def full(self: Journal, statements: list[Any]) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with serving(tmp_path) as (_, raw):
        raw.send(b"before")
        monkeypatch.setattr(Journal, "_write", full)
        failed = raw.send(b"full")
        assert (names(failed), failed.remark) == ("SYSTEM_ERROR", "it could not be written to disk")
        assert names(raw.pull()) == "SYSTEM_ERROR", "nothing is shown that could be gone tomorrow"
        monkeypatch.setattr(Journal, "_write", write)
        wait_for(lambda: names(raw.send(b"after")) == "SUCCESS")
    with serving(tmp_path) as (_, raw):
        assert {b"before", b"full", b"after"} == {message.body for message in raw.messages()}


def test_a_file_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_BUSY_TIMEOUT", 0.05)
    with serving(tmp_path), pytest.raises(ConfigError, match=r"namesrv\.sqlite cannot be used for data: database is locked"):
        EmbeddedCluster(data=tmp_path).start()
    other = tmp_path / "other"
    other.mkdir()
    (other / "broker-a.sqlite").write_bytes(b"this is no database, but long enough to be looked at" * 100)
    with pytest.raises(ConfigError, match=r"broker-a\.sqlite cannot be used for data: file is not a database"):
        EmbeddedCluster(data=other).start()
    with pytest.raises(ConfigError, match="cannot be used for data"):
        EmbeddedCluster(data=tmp_path / "broker-a.sqlite").start()
    newer = sqlite3.connect(tmp_path / "broker-a.sqlite")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(ConfigError, match="has layout 99"):
        EmbeddedCluster(data=tmp_path).start()


def test_a_transaction_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "x.sqlite")
    journal.open()
    try:
        journal.message(LoggedMessage(0, "T", 0, 0, b"frame"))
        journal._note("INSERT INTO nowhere VALUES (?)", (1,))
        assert not journal.flush()
        assert list(journal.messages()) == []
        journal._statements.pop()
        assert journal.flush()
        assert [message.frame for message in journal.messages()] == [b"frame"]
    finally:
        journal.close()
