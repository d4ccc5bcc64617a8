"""What ``sink.c`` does, in Python, where there is no C compiler; slower. Prints its port, ends with its input."""

from __future__ import annotations

import json
import struct
from typing import Any

from bench.children import run_server
from bench.raw import ONEWAY, count_messages
from grocketmq.codes import PROTOCOL_VERSION, RequestCode, ResponseCode

QUEUES = 8

_offsets = [0] * QUEUES


def serve(connection: Any, _: object) -> None:
    """Answer one peer's requests, as many at once as came at once."""
    port = connection.getsockname()[1]
    data = b""
    while chunk := connection.recv(256 * 1024):
        data += chunk
        answers = []
        position = 0
        while len(data) - position >= 8:
            length, header_length = struct.unpack_from(">II", data, position)
            end = position + 4 + length
            if end > len(data):
                break
            body_at = position + 8 + (header_length & 0xFFFFFF)
            answers.append(_answer(json.loads(data[position + 8 : body_at]), data[body_at:end], port))
            position = end
        data = data[position:]
        connection.sendall(b"".join(answers))


def _answer(request: dict[str, Any], body: bytes, port: int) -> bytes:
    code, fields = request["code"], request.get("extFields") or {}
    queue = int(fields.get("e") or fields.get("queueId") or 0) % QUEUES
    answer_body = b""
    answer_fields: dict[str, str] = {}
    answer_code = ResponseCode.SUCCESS
    if code in (RequestCode.SEND_MESSAGE, RequestCode.SEND_MESSAGE_V2, RequestCode.SEND_BATCH_MESSAGE):
        offset = _offsets[queue]
        _offsets[queue] += count_messages(body) if code == RequestCode.SEND_BATCH_MESSAGE else 1
        msg_id = f"7F00000100002A9F{offset:016X}"
        answer_fields = {"queueId": str(queue), "msgId": msg_id, "queueOffset": str(offset)}
    elif code == RequestCode.GET_MAX_OFFSET:
        answer_fields = {"offset": str(_offsets[queue])}
    elif code == RequestCode.GET_ROUTEINFO_BY_TOPIC:
        answer_body = json.dumps(_route(port)).encode()
    elif code not in (RequestCode.HEART_BEAT, RequestCode.UNREGISTER_CLIENT, RequestCode.UPDATE_AND_CREATE_TOPIC):
        answer_code = ResponseCode.REQUEST_CODE_NOT_SUPPORTED
    if request.get("flag", 0) & ONEWAY:
        return b""
    header = {
        "code": answer_code,
        "extFields": answer_fields,
        "flag": 1,
        "language": "JAVA",
        "opaque": request["opaque"],
        "serializeTypeCurrentRPC": "JSON",
        "version": PROTOCOL_VERSION,
    }
    encoded = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack(">II", 4 + len(encoded) + len(answer_body), len(encoded)) + encoded + answer_body


def _route(port: int) -> dict[str, Any]:
    queues = {"brokerName": "sink", "perm": 6, "readQueueNums": QUEUES, "writeQueueNums": QUEUES, "topicSysFlag": 0}
    broker = {"brokerAddrs": {"0": f"127.0.0.1:{port}"}, "brokerName": "sink", "cluster": "sink"}
    return {"brokerDatas": [broker], "filterServerTable": {}, "queueDatas": [queues]}


if __name__ == "__main__":
    run_server(serve)
