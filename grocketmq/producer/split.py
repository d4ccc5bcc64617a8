"""Cuts a long list of messages into batches that a broker takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from grocketmq.errors import MessageError
from grocketmq.model.message import Message
from grocketmq.model.properties import encode_properties
from grocketmq.model.validators import MAX_MESSAGE_BYTES

__all__ = ["split_batch"]

#: Fixed fields of one message in a batch, and the id that is added to its properties when it is sent.
_OVERHEAD_BYTES = 22 + 48


def split_batch(msgs: Iterable[Message], max_size: int = MAX_MESSAGE_BYTES) -> Iterator[list[Message]]:
    """Cut messages into lists for :meth:`Producer.send_batch`, in order; never blocks.

    :param msgs: the messages, of one topic.
    :param max_size: the most bytes a batch may take on the wire; not above the producer's ``max_message_size``.
    :returns: the batches, none empty.
    :raises MessageError: for a message that is larger alone, and for what is no message.
    """
    batch: list[Message] = []
    size = 0
    for msg in msgs:
        if not isinstance(msg, Message):
            raise MessageError(f"split_batch takes messages, not {msg!r:.80}")
        one = _OVERHEAD_BYTES + len(msg.body) + len(encode_properties(msg.properties).encode("utf-8", "surrogatepass"))
        if one > max_size:
            raise MessageError(f"message of topic {msg.topic} takes {one} bytes in a batch, more than the {max_size} of one")
        if batch and size + one > max_size:
            yield batch
            batch, size = [], 0
        batch.append(msg)
        size += one
    if batch:
        yield batch
