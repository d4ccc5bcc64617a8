"""The fingerprint of a heartbeat."""

from __future__ import annotations

from typing import Any

from grocketmq.wire.bodies import HEARTBEAT, heartbeat_fingerprint, normalised_heartbeat
from tests.vectors.loader import vector


@vector("misc", "heartbeat_fingerprint")
def test_heartbeat_fingerprint(case: dict[str, Any]) -> None:
    heartbeat = HEARTBEAT.decode(case["heartbeat_text"].encode("utf-8"))
    assert HEARTBEAT.encode(normalised_heartbeat(heartbeat)).decode("utf-8") == case["normalised_text"]
    assert heartbeat_fingerprint(heartbeat) == case["fingerprint"]
