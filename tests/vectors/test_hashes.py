"""Hashes, subscriptions and namespaced names, as the Java classes compute them."""

from __future__ import annotations

from typing import Any

import pytest

from grocketmq.errors import ConfigError
from grocketmq.hashing import java_hash_index, java_long_hash, java_string_hash
from grocketmq.model.namespace import (
    is_dlq_topic,
    is_retry_topic,
    namespace_of,
    retry_topic,
    strip_namespace,
    without_namespace,
    without_retry_and_dlq,
    wrap_namespace,
)
from grocketmq.model.subscription import Sql, SubscriptionData, subscription
from grocketmq.wire.message_codec import body_crc
from tests.vectors.loader import vector

Case = dict[str, Any]


@vector("hashes", "string_hash")
def test_string_hash(case: Case) -> None:
    assert java_string_hash(case["string"]) == case["hash"]


@vector("hashes", "tags_code")
def test_tags_code(case: Case) -> None:
    assert java_string_hash(case["tags"] or "") == case["code"] == case["code_single_filter"]


@vector("hashes", "select_by_hash")
def test_select_by_hash(case: Case) -> None:
    hash_of = {"string": java_string_hash, "int": lambda number: number, "long": java_long_hash}[case["type"]]
    value = hash_of(case["arg"])
    assert value == case["hash"]
    assert {size: java_hash_index(value, int(size)) for size in case["index_by_size"]} == case["index_by_size"]


@vector("hashes", "crc32")
def test_crc32(case: Case) -> None:
    assert body_crc(bytes.fromhex(case["hex"])) == case["crc"]


@vector("hashes", "subscription")
def test_subscription(case: Case) -> None:
    expression, kind = case["expression"], case["type"]
    if kind == "SQL92":
        expression = Sql(expression)
    if case["error"]:
        with pytest.raises(ConfigError):
            subscription(case["topic"], expression)
        return
    if kind in (None, "TAG", "SQL92"):
        data = subscription(case["topic"], expression)
    else:  # Java passes on types it does not know; here only their data can be written
        data = SubscriptionData(case["topic"], expression, expression_type=kind)
    result = case["result"]
    assert (data.topic, data.sub_string, data.expression_type) == (
        result["topic"],
        result["subString"],
        result["expressionType"],
    )
    assert data.class_filter_mode == result["classFilterMode"]
    assert sorted(data.tags) == sorted(result["tagsSet"])
    assert sorted(data.codes) == sorted(result["codeSet"])


@vector("hashes", "namespace")
def test_namespace(case: Case) -> None:
    namespace, resource = case["namespace"], case["resource"] or ""
    wrapped = wrap_namespace(namespace, resource)
    assert wrapped == (case["wrapped"] or "")
    assert without_namespace(resource, namespace) == (case["without"] or "")
    if case["already"]:
        assert wrapped == resource
        assert without_namespace(resource, namespace) != resource
    if resource:
        assert retry_topic(wrapped) == case["wrap_and_retry"]


@vector("hashes", "namespace_without")
def test_namespace_of_a_name(case: Case) -> None:
    resource = case["resource"] or ""
    assert strip_namespace(resource) == (case["result"] or "")
    assert namespace_of(resource) == case["namespace_of"]
    assert without_retry_and_dlq(resource) == case["without_retry_and_dlq"]
    assert (is_retry_topic(resource), is_dlq_topic(resource)) == (case["is_retry"], case["is_dlq"])
