"""Scripted calls on a process queue end as they end in Java."""

from __future__ import annotations

from typing import Any

from grocketmq.consumer.process_queue import ProcessQueue
from grocketmq.model.message import MessageExt
from tests.vectors.loader import vector

#: Bytes of a body unless the step says otherwise.
BODY = 10


@vector("process_queue", "concurrent", "orderly")
def test_script(case: dict[str, Any]) -> None:
    script = Script()
    for number, step in enumerate(case["steps"]):
        where = f"step {number}: {step}"
        assert getattr(script, f"op_{step['op']}")(*step["args"]) == step["result"], where
        assert (script.queue.count, script.queue.size_bytes) == (step["count"], step["size"]), where


class Script:
    """One method for each operation of the scripts."""

    def __init__(self) -> None:
        self.queue = ProcessQueue(now=0.0)
        self.messages: dict[int, MessageExt] = {}

    def message(self, offset: str, size: int = BODY) -> MessageExt:
        return self.messages.setdefault(int(offset), MessageExt("TopicTest", b"x" * size, queue_offset=int(offset)))

    def op_put(self, *offsets: str) -> bool:
        return self.queue.put([self.message(offset) for offset in offsets])

    def op_putmax(self, max_offset: str, *offsets: str) -> bool:
        return self.queue.put([self.message(offset) for offset in offsets], int(max_offset))

    def op_putsz(self, *pairs: str) -> bool:
        split = [pair.split(":") for pair in pairs]
        return self.queue.put([self.message(offset, int(size)) for offset, size in split])

    def op_rm(self, *offsets: str) -> int:
        return self.queue.remove([self.message(offset) for offset in offsets])

    def op_take(self, limit: str) -> list[int]:
        return [message.queue_offset for message in self.queue.take(int(limit))]

    def op_commit(self) -> int:
        return self.queue.commit()

    def op_rollback(self) -> None:
        self.queue.rollback()

    def op_again(self, *offsets: str) -> None:
        self.queue.put_back([self.message(offset) for offset in offsets])

    def op_clear(self) -> None:
        self.queue.clear()

    def op_span(self) -> int:
        return self.queue.span

    def op_has(self, offset: str) -> bool:
        return self.message(offset) in self.queue

    def op_acc(self) -> int:
        return self.queue.accumulated

    def op_size(self) -> list[int]:
        return [self.queue.count, self.queue.size_bytes]

    def op_state(self) -> dict[str, Any]:
        return {
            "count": self.queue.count,
            "size": self.queue.size_bytes,
            "offsets": self.queue.offsets(),
            "has_message": self.queue.has_messages,
            "span": self.queue.span,
        }
