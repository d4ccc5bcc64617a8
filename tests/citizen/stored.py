"""Did every sender get its own answer?  What programs say of their sends is compared with what the cluster holds."""

from __future__ import annotations

from collections import Counter
from typing import Any

from grocketmq import Producer, SendResult


def sent(body: str, result: SendResult) -> dict[str, Any]:
    """What a program says of one send, for :func:`wrong_answers`."""
    return {"body": body, "msg_id": result.msg_id, "stored": result.offset_msg_id}


def wrong_answers(namesrv: str, sends: list[dict[str, Any]]) -> list[str]:
    """One line for each send whose result names another message than its own, or one that another send got too."""
    wrong = []
    with Producer("judge", namesrv=namesrv) as producer:
        for one in sends:
            found = producer.view_message(one["stored"])
            if found.body.decode() != one["body"] or found.msg_id != one["msg_id"]:
                wrong.append(f"{one} is {found}")
    twice = [stored for stored, count in Counter(one["stored"] for one in sends).items() if count > 1]
    return wrong + [f"{stored} is the answer to several sends" for stored in twice]
