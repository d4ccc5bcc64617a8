"""Auto-batching against real brokers: each caller's result tells where its own message is."""

from __future__ import annotations

import gevent

from grocketmq import Message
from tests.helpers import wait_for

from .clients import ARRIVAL, Inbox, consuming, producing
from .conftest import Pair


def test_results_of_gathered_messages(pair: Pair, topic_name: str, group_name: str) -> None:
    pair.cluster.create_topic(topic_name, queues=2)
    messages = [Message(topic_name, b"%d" % number, tags="ab"[number % 2], keys=f"k{number}") for number in range(100)]
    inbox = Inbox()
    with producing(pair.cluster, auto_batch=True) as producer:
        greenlets = [gevent.spawn(producer.send, message) for message in messages]
        gevent.joinall(greenlets, timeout=ARRIVAL, raise_error=True)
        results = [greenlet.value for greenlet in greenlets]
        for message, result in list(zip(messages, results, strict=True))[::9]:
            found = producer.view_message(result.offset_msg_id)
            assert (found.body, found.msg_id, found.keys) == (message.body, result.msg_id, message.keys)
            assert (found.queue_id, found.queue_offset) == (result.message_queue.queue_id, result.queue_offset)
    assert len({(result.message_queue, result.queue_offset) for result in results}) == 100
    with consuming(pair.cluster, group_name, topic_name, inbox, expression="a"):
        wait_for(lambda: len(inbox.messages) == 50, ARRIVAL, "the messages of one tag")
    assert set(inbox.bodies) == {message.body for message in messages if message.tags == "a"}
