"""``RemotingCommand``: one request or one answer.

Source: Apache RocketMQ 5.3.3, module remoting, class ``RemotingCommand``.
"""

from __future__ import annotations

from grocketmq.codes import PROTOCOL_VERSION, LanguageCode
from grocketmq.wire.flags import RpcFlag

__all__ = ["RemotingCommand"]


class RemotingCommand:
    """One frame of the protocol, as values.

    :param code: of a request, what is asked for; of an answer, how it ended.
    :param opaque: a signed 32-bit number that ties an answer to its request on one connection.
    :param flag: bits of :class:`~grocketmq.wire.flags.RpcFlag`.
    :param remark: a text for people.
    :param ext_fields: the header's own fields, name to text; None when there are none.
    :param body: the payload; None when there is none.
    :param language: what the sender is written in; None when it is one we do not know.
    :param version: the sender's ``MQVersion`` ordinal.
    """

    __slots__ = ("body", "code", "ext_fields", "flag", "language", "opaque", "remark", "version")

    ext_fields: dict[str, str | None] | None

    def __init__(
        self,
        code: int,
        opaque: int = 0,
        flag: int = 0,
        remark: str | None = None,
        ext_fields: dict[str, str | None] | None = None,
        body: bytes | None = None,
        language: LanguageCode | None = LanguageCode.PYTHON,
        version: int = PROTOCOL_VERSION,
    ) -> None:
        self.code = code
        self.opaque = opaque
        self.flag = flag
        self.remark = remark
        self.ext_fields = ext_fields
        self.body = body
        self.language = language
        self.version = version

    @classmethod
    def response_to(
        cls,
        request: RemotingCommand,
        code: int,
        remark: str | None = None,
        ext_fields: dict[str, str | None] | None = None,
        body: bytes | None = None,
    ) -> RemotingCommand:
        """An answer to a request: the same opaque, the response bit set."""
        return cls(code, request.opaque, RpcFlag.RESPONSE, remark, ext_fields, body)

    @property
    def is_response(self) -> bool:
        """Whether this is an answer."""
        return bool(self.flag & RpcFlag.RESPONSE)

    @property
    def is_oneway(self) -> bool:
        """Whether nobody waits for an answer, so none may be sent."""
        return bool(self.flag & RpcFlag.ONEWAY)

    def prepared_json_header(self) -> bytes | None:
        """The JSON header, where a subclass can make it faster than from its ext fields; None here."""
        return None

    def __repr__(self) -> str:
        kind = "response" if self.is_response else "oneway" if self.is_oneway else "request"
        return f"<RemotingCommand {kind} code={self.code} opaque={self.opaque} body={len(self.body or b'')} bytes>"
