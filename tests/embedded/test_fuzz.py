"""Anything on the ports of the embedded cluster: at most the connection that it came on ends."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import gevent
import pytest
from gevent import socket
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grocketmq.codes import RequestCode
from grocketmq.embedded import EmbeddedCluster
from grocketmq.remoting.stream import split_address
from grocketmq.wire import headers
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.headers.base import CommandHeader
from tests.embedded.raw import RawClient, names
from tests.vectors.loader import load

#: Bytes that are one frame each, sound ones and broken ones.
FRAMES = [bytes.fromhex(case["frame_hex"]) for case in load("remoting_commands")["cases"] if case.get("frame_hex")]
#: All fields that any request has, and some that none has.
FIELDS = sorted(
    {
        wire
        for header in vars(headers).values()
        if isinstance(header, type) and issubclass(header, CommandHeader)
        for wire in header.wire_names().values()
    }
    | {"nothing", ""}
)
VALUES = st.sampled_from(
    [*("0", "1", "-1", "7", "true", "", "T", "g", "%RETRY%g", "T\x00", "SQL92", "TAG", "a ||", "0 1 2 0 0 broker-a 0 0", "{}")]
    + [str(1 << 31), str(-(1 << 63)), str((1 << 63) - 1), "x" * 300, "ключ\x01значение\x02", "UNIQ_KEY\x01U\x02DELAY\x013\x02"]
) | st.text(max_size=20)
BODIES = st.sampled_from(
    [
        *(None, b"{}", b"[]", b"null", b'{"clientID":"c"}', b'{"mqSet":[{}]}', b'{"acks":[{"b":"//8="}]}', b"x" * 2000),
        b'{"clientID":"c","consumerDataSet":[{"groupName":"g","subscriptionDataSet":[{"topic":"T","subString":"*"}]}]}',
        b'{"clientID":"c","producerDataSet":[{"groupName":"g"}]}',
        b'{"topic":"T","consumerGroup":"g","mode":"POP","clientId":"c","strategyName":"AVG"}',
    ]
) | st.binary(max_size=40)
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(list(RequestCode)),
        st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=12),
        BODIES,
    ),
    max_size=8,
)
fuzzing = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def shared() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(recall_messages=True) as cluster:
        cluster.create_topic("T")
        raw = RawClient(cluster.broker_address("broker-a"))
        raw.send(topic="T")
        raw.heartbeat("c", group="g")
        yield cluster
        raw.close()


pytestmark = pytest.mark.leaves("greenlets", "sockets", reason="one cluster for all examples")


@contextmanager
def still_serves(cluster: EmbeddedCluster) -> Iterator[RawClient]:
    """A client that was there before, and works on the same connections afterwards."""
    healthy = RawClient(cluster.broker_address("broker-a"))
    route = headers.GetRouteInfoRequestHeader(topic="TBW102")
    try:
        assert names(healthy.send(topic="healthy")) == "SUCCESS"
        healthy.call(route, at=cluster.namesrv)
        before = {(channel.address) for broker in cluster.brokers.values() for channel in broker.server.channels}
        yield healthy
        assert names(healthy.send(topic="healthy")) == "SUCCESS"
        assert names(healthy.call(route, at=cluster.namesrv)) == "SUCCESS"
        assert before & {channel.address for broker in cluster.brokers.values() for channel in broker.server.channels}
    finally:
        healthy.close()


@fuzzing
@given(REQUESTS)
def test_any_request_is_answered(
    shared: EmbeddedCluster, caplog: pytest.LogCaptureFixture, requests: list[tuple[int, dict[str, str | None], bytes | None]]
) -> None:
    """No request makes a handler fail in a way that nobody thought of."""
    caplog.clear()
    asked = RawClient(shared.broker_address("broker-a"))
    try:
        for at in (shared.broker_address("broker-a"), shared.namesrv):
            for code, fields, body in requests:
                asked.remoting.invoke_oneway(at, RemotingCommand(code, ext_fields=dict(fields), body=body), 3.0)
            ping = headers.GetMaxOffsetRequestHeader(topic="T", queue_id=0)
            asked.call(ping, at=at)
    finally:
        asked.close()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


@fuzzing
@given(st.lists(st.binary(max_size=60) | st.sampled_from(FRAMES), max_size=6), st.booleans())
def test_any_bytes(shared: EmbeddedCluster, pieces: list[bytes], to_name_server: bool) -> None:
    address = shared.namesrv if to_name_server else shared.broker_address("broker-a")
    with still_serves(shared), closing(socket.create_connection(split_address(address))) as peer:
        try:
            for piece in pieces:
                peer.sendall(piece)
            peer.shutdown(socket.SHUT_WR)
            with gevent.Timeout(5, AssertionError("the connection does not end")):
                while peer.recv(65536):
                    pass
        except OSError:
            pass


@fuzzing
@given(st.sampled_from(FRAMES), st.integers(0, 200), st.integers(0, 255))
def test_a_frame_with_a_wrong_byte(shared: EmbeddedCluster, frame: bytes, at: int, byte: int) -> None:
    damaged = bytearray(frame)
    if damaged:
        damaged[at % len(damaged)] = byte
    with still_serves(shared), closing(socket.create_connection(split_address(shared.broker_address("broker-a")))) as peer:
        peer.sendall(bytes(damaged))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_announced_frames_take_no_memory(shared: EmbeddedCluster) -> None:
    """A hundred peers that each announce the largest frame and send its beginning."""
    with still_serves(shared):
        before = resident_bytes()
        address = split_address(shared.broker_address("broker-a"))
        peers = [socket.create_connection(address) for _ in range(100)]
        for peer in peers:
            peer.sendall(struct.pack(">II", (16 << 20) - 8, 100) + b"{" * 1000)
        gevent.sleep(0.2)
        assert resident_bytes() - before < 100 << 20
        for peer in peers:
            peer.close()
