"""The handle by which a timer message can be recalled: base64 (URL form) of ``v1 topic broker time id``.

Source: Apache RocketMQ 5.3.3, module common, class ``RecallMessageHandle``.
"""

from __future__ import annotations

import base64
import re
from typing import NamedTuple

from grocketmq.errors import MessageError

__all__ = ["RecallHandle", "decode_recall_handle", "encode_recall_handle"]

_VERSION = "v1"
_SEPARATOR = " "
_ALPHABET = re.compile(r"[A-Za-z0-9_-]+={0,2}")


class RecallHandle(NamedTuple):
    """What a handle says.

    :param topic: the message's topic.
    :param broker_name: the broker that holds it until then.
    :param timestamp: when it is to be delivered, ms since the epoch, as text.
    :param message_id: the id its client gave it.
    """

    topic: str
    broker_name: str
    timestamp: str
    message_id: str


def encode_recall_handle(handle: RecallHandle) -> str:
    """Write a handle; never blocks.

    :param handle: its fields, none of which may hold a space.
    """
    return base64.urlsafe_b64encode(_SEPARATOR.join((_VERSION, *handle)).encode()).decode("ascii")


def decode_recall_handle(text: str) -> RecallHandle:
    """Read a handle; never blocks.  The ``=`` at its end may be missing, and fields may follow those known here.

    :param text: as a send's result gave it.
    :raises MessageError: when it is no handle.
    """
    if not isinstance(text, str):
        raise MessageError(f"recall handle {text!r:.80}: not a str; only messages sent with delay or deliver_at have one")
    try:
        if not _ALPHABET.fullmatch(text):
            raise ValueError("a character outside of base64")
        unpadded = text.rstrip("=")
        raw = base64.urlsafe_b64decode(unpadded + "=" * (-len(unpadded) % 4)).decode("utf-8")
        version, *fields = raw.rstrip(_SEPARATOR).split(_SEPARATOR)
        if version != _VERSION or len(fields) < 4:
            raise ValueError("not of version v1 with four fields")
    except ValueError as error:
        raise MessageError(f"recall handle {text[:200]!r} is not one that a send has returned: {error}") from error
    return RecallHandle(*fields[:4])
