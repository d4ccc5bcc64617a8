"""Access control: the fields that prove who sends a request.

Signed are the values of all ext fields but the signature, in the order of their names and without names or separators, then the
body.  So a request is signed last, when nothing adds fields to it any more, and anew before it is sent again with other fields.

Source: Apache RocketMQ 5.3.3, module client, classes ``AclClientRPCHook``, ``AclUtils``, ``AclSigner``.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field

from grocketmq.errors import ConfigError
from grocketmq.hashing import utf16_order

__all__ = ["ACCESS_KEY", "SECURITY_TOKEN", "SIGNATURE", "Credentials", "sign", "signed_content", "signed_fields"]

ACCESS_KEY = "AccessKey"
SECURITY_TOKEN = "SecurityToken"
SIGNATURE = "Signature"


@dataclass(frozen=True)
class Credentials:
    """Who a client is, for clusters with access control.

    :param access_key: the account's name.
    :param secret_key: its secret; it never travels and is not shown by ``repr``.
    :param security_token: of a temporary account, None for others; not shown by ``repr`` either.
    :raises ConfigError: when either key is empty.
    """

    access_key: str
    secret_key: str = field(repr=False)
    security_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.access_key or not self.secret_key:
            raise ConfigError("credentials want both an access_key and a secret_key")


def signed_content(ext_fields: Mapping[str, str | None], body: bytes | None) -> bytes:
    """The bytes that are signed; never blocks.

    :param ext_fields: the request's ext fields, access key included; one without a value does not travel and so does not count.
    :param body: the request's body.
    """
    names = sorted(ext_fields.keys() - {SIGNATURE}, key=utf16_order)
    # Java writes a lone surrogate as "?".
    text = "".join([ext_fields[name] or "" for name in names]).encode("utf-8", "replace")
    return text + body if body else text


def sign(content: bytes, secret_key: str, algorithm: str = "sha1") -> str:
    """The signature of some bytes; never blocks.

    :param content: what :func:`signed_content` gives.
    :param secret_key: the secret, whose UTF-8 bytes are the key.
    :param algorithm: of the HMAC; brokers expect SHA-1.
    :returns: the HMAC in base64.
    """
    return b64encode(hmac.digest(secret_key.encode("utf-8", "replace"), content, algorithm)).decode("ascii")


def signed_fields(
    ext_fields: Mapping[str, str | None] | None, body: bytes | None, credentials: Credentials
) -> dict[str, str | None]:
    """The ext fields of a request with access key, token and signature; never blocks.

    :param ext_fields: the request's own fields, all of them; an old signature among them is replaced.
    :param body: the request's body.
    :param credentials: who signs.
    :returns: a new dict.
    """
    fields = {**(ext_fields or {}), ACCESS_KEY: credentials.access_key}
    if credentials.security_token is not None:
        fields[SECURITY_TOKEN] = credentials.security_token
    fields[SIGNATURE] = sign(signed_content(fields, body), credentials.secret_key)
    return fields
