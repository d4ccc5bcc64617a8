"""SQL92 filters and which of some messages they take; the same for the embedded broker and for a real one."""

from __future__ import annotations

from grocketmq.model.subscription import SubscriptionData
from grocketmq.wire import bodies, headers
from grocketmq.wire.bodies import CheckClientRequestBody
from grocketmq.wire.message_codec import decode_messages
from tests.embedded.raw import RawClient

#: The properties of the messages, each with the body that names it.
MESSAGES: dict[bytes, dict[str, str]] = {
    b"none": {"other": "x"},
    b"five": {"price": "5", "region": "eu", "flag": "true"},
    b"ten": {"price": "10", "region": "us", "flag": "false", "Name": "it's"},
    b"half": {"price": "10.5", "region": "eu-west", "name": "region"},
    b"minus": {"price": "-3", "region": "EU"},
    b"word": {"price": "cheap", "name": "cheap"},
    b"huge": {"price": "99999999999"},
}

#: What a filter takes; None when brokers refuse it.
CASES: dict[str, set[bytes] | None] = {
    "price > 5": {b"ten"},
    "price >= 5": {b"five", b"ten"},
    "price < 5": {b"minus"},
    "price <= 10.0": {b"five", b"ten", b"minus"},
    "price > 10.0": {b"half", b"huge"},
    "price > 9999999999": {b"huge"},
    "price = 10": {b"ten"},
    "price = '10'": {b"ten"},
    "price <> 10": {b"five", b"minus"},
    "price <> 'cheap'": {b"five", b"ten", b"half", b"minus", b"huge"},
    "5 < price": {b"ten"},
    "price > -5": {b"five", b"ten", b"minus"},
    "price > +5": {b"ten"},
    "price = -3": {b"minus"},
    "price > 5L": {b"ten"},
    "price = 1.05e1": {b"half"},
    "price = name": {b"word", b"none"},
    "region = 'eu'": {b"five"},
    "REGION = 'eu'": set(),
    "Name = 'it''s'": {b"ten"},
    "price BETWEEN 5 AND 10": {b"five", b"ten"},
    "price between 5.0 and 10.5": {b"five", b"ten", b"half"},
    "price NOT BETWEEN 5 AND 10": {b"minus"},
    "region IN ('eu', 'us')": {b"five", b"ten"},
    "region NOT IN ('eu', 'us')": {b"half", b"minus"},
    "region IS NULL": {b"none", b"word", b"huge"},
    "region IS NOT NULL": {b"five", b"ten", b"half", b"minus"},
    "region CONTAINS 'eu'": {b"five", b"half"},
    "region NOT CONTAINS 'eu'": {b"ten", b"minus"},
    "region STARTSWITH 'eu-'": {b"half"},
    "region NOT STARTSWITH 'eu'": {b"ten", b"minus"},
    "region ENDSWITH 's'": {b"ten"},
    "region NOT ENDSWITH 't'": {b"five", b"ten", b"minus"},
    "region CONTAINS ''": set(),
    "region NOT CONTAINS ''": set(),
    "price > 5 AND region = 'us'": {b"ten"},
    "region = 'us' OR price > 5": {b"ten"},
    "region = 'us' OR region = 'eu' AND price > 100": {b"ten"},
    "(region = 'us' OR region = 'eu') AND price < 10": {b"five"},
    "NOT (region = 'eu')": {b"ten", b"half", b"minus"},
    "NOT region = 'eu'": set(),
    "flag = TRUE": {b"five"},
    "flag = FALSE": {b"ten"},
    "flag": set(),
    "TRUE": set(MESSAGES),
    "FALSE": set(),
    "TRUE = flag": set(),
    "(price = 5) = TRUE": {b"five"},
    "other = 'x' AND price > 5": set(),
    "other = 'x' OR price > 5": {b"none", b"ten"},
    "price > 5 -- cheap ones\n AND region = 'us'": {b"ten"},
    "price > /* cheap */ 5": {b"ten"},
    "price > 5 what follows": {b"ten"},
    "price >": None,
    "": None,
    "price > 'a'": None,
    "price = NULL": None,
    "price > 0.0": None,
    "price > 99999999999999999999": None,
    "price BETWEEN 10 AND 5": None,
    "price IN (1, 2)": None,
    "'a' IN ('a')": None,
    "price": set(),
    "5": None,
    "price AND 5": None,
    "(price > 5": None,
    "price > 'open": None,
    "price ~ 5": None,
    "a = 1 AND": None,
    "price LIKE 'a%'": set(),
    "TRUE = 5": None,
    "(price > 5) > 5": None,
    "region NOT 'a'": None,
    "region CONTAINS 5": None,
}


def fill(raw: RawClient, topic: str) -> None:
    """Send the messages to queue 0 of a topic."""
    for body, properties in MESSAGES.items():
        raw.send(body, topic=topic, **properties)


def taken(raw: RawClient, topic: str, group: str, expression: str) -> set[bytes] | None:
    """What a broker takes, by its own word at a client's start and by what it answers to a pull."""
    asked = CheckClientRequestBody("client", group, SubscriptionData(topic, expression, expression_type="SQL92"))
    checked = raw.call(headers.HeartbeatRequestHeader(), bodies.CHECK_CLIENT.encode(asked), code=46)
    if checked.code == 23:
        return None
    assert checked.code == 0, checked.remark
    answer = raw.pull(topic=topic, group=group, expression=expression, expression_type="SQL92")
    assert answer.code in (0, 20), answer.remark
    return {message.body for message in decode_messages(answer.body or b"")}
