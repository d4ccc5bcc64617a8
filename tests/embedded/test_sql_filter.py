"""SQL92 filters, by themselves and in the embedded broker."""

from __future__ import annotations

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grocketmq import ConsumeFromWhere, Message, Producer, PushConsumer, Sql
from grocketmq.embedded import EmbeddedCluster
from grocketmq.embedded.sql_filter import compile_sql
from grocketmq.errors import ConfigError
from grocketmq.model.subscription import SubscriptionData
from grocketmq.wire.message_codec import decode_messages
from tests.embedded.raw import GROUP, TOPIC, RawClient, names
from tests.embedded.sql_cases import CASES, MESSAGES, fill, taken
from tests.helpers import wait_for

PIECES = [
    *("NOT", "AND", "OR", "BETWEEN", "IN", "TRUE", "NULL", "IS", "CONTAINS", "a", "b", "5", "1.5", "'x'", "'", "(", ")"),
    *("=", "<>", "<", ">", ",", "-", "+", "/*", "--", "\n", "ü"),
]


def test_cases_by_the_broker(raw: RawClient) -> None:
    fill(raw, TOPIC)
    wrong = {text: found for text, expected in CASES.items() if (found := taken(raw, TOPIC, GROUP, text)) != expected}
    assert wrong == {}


@given(st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join) | st.text(max_size=40))
def test_any_text_is_a_filter_or_a_clear_error(text: str) -> None:
    try:
        condition = compile_sql(text)
    except ConfigError:
        return
    for properties in MESSAGES.values():
        assert condition(properties) in (True, False)


def test_long_and_deep_filters() -> None:
    assert compile_sql(" OR ".join(f"a = {number}" for number in range(5000)))({"a": "4999"})
    with pytest.raises(ConfigError, match="nested too deep"):
        compile_sql("(" * 100_000 + "a")


def test_an_error_says_where() -> None:
    with pytest.raises(
        ConfigError, match=r"'price >': a property, a number, a text or a condition expected before 7, not its end"
    ):
        compile_sql("price >")
    with pytest.raises(ConfigError, match="'~ 5' at 6"):
        compile_sql("price ~ 5")


def test_the_heartbeats_condition_counts(raw: RawClient) -> None:
    fill(raw, TOPIC)

    def subscribed(expression: str) -> str:
        raw.heartbeat("client", SubscriptionData(TOPIC, expression, sub_version=version, expression_type="SQL92"))
        answer = raw.pull(expression=None, sub_version=version)
        return names(answer) + "".join(f" {message.body.decode()}" for message in decode_messages(answer.body or b""))

    version = 1
    assert subscribed("price > 5") == "SUCCESS ten"
    version = 2
    assert subscribed("price >") == "FILTER_DATA_NOT_EXIST"


def test_a_pull_waits_for_what_it_wants(raw: RawClient, other: RawClient, cluster: EmbeddedCluster) -> None:
    cluster.create_topic(TOPIC)
    waiting = gevent.spawn(raw.pull, 0, hold=30.0, expression="price > 5", expression_type="SQL92")
    wait_for(lambda: cluster.brokers["broker-a"].pulls.held() == 1)
    other.send(b"cheap", price="3")
    gevent.sleep(0.05)
    assert not waiting.ready()
    other.send(b"dear", price="7")
    assert [message.body for message in decode_messages(waiting.get(timeout=5).body or b"")] == [b"dear"]


def test_a_condition_that_cannot_be_read_filters_nothing_when_it_comes_with_the_pull(raw: RawClient) -> None:
    raw.send(b"x")
    answer = raw.pull(expression="price >", expression_type="SQL92")
    assert [message.body for message in decode_messages(answer.body or b"")] == [b"x"]


def test_where_it_is_off_it_is_refused() -> None:
    with EmbeddedCluster(property_filter=False) as cluster:
        consumer = PushConsumer("g", namesrv=cluster.namesrv)
        consumer.subscribe("T", Sql("a > 1"))
        consumer.register_listener(lambda msgs: None)
        cluster.create_topic("T")
        with pytest.raises(ConfigError, match="does not support consumer to filter message by SQL92"):
            consumer.start()
        raw = RawClient(cluster.broker_address("broker-a"))
        raw.send()
        assert names(raw.pull(expression="a > 1", expression_type="SQL92")) == "SYSTEM_ERROR"
        raw.close()


def test_a_push_consumer_gets_what_it_asked_for(cluster: EmbeddedCluster) -> None:
    seen: list[bytes] = []
    cluster.create_topic("T")
    consumer = PushConsumer("g", namesrv=cluster.namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET)
    consumer.subscribe("T", Sql("price BETWEEN 5 AND 7 AND region IN ('eu')"))
    consumer.register_listener(lambda msgs: seen.extend(one.body for one in msgs))
    with Producer("p", namesrv=cluster.namesrv) as producer, consumer:
        for number in range(20):
            producer.send(
                Message("T", b"%d" % number, properties={"price": str(number), "region": "eu" if number % 2 else "us"})
            )
        wait_for(lambda: len(seen) == 2, timeout=10)
        assert sorted(seen) == [b"5", b"7"]
