"""Requests are signed as Java signs them."""

from __future__ import annotations

import hashlib
from typing import Any

from grocketmq.wire.acl import ACCESS_KEY, SECURITY_TOKEN, Credentials, sign, signed_content, signed_fields
from tests.vectors.loader import body_of, vector


@vector("acl", "request")
def test_request(case: dict[str, Any]) -> None:
    credentials = Credentials(case["access_key"], case["secret_key"], case["security_token"])
    body = body_of(case["body"])
    before = case["ext_before"]
    untouched = None if before is None else dict(before)

    content = signed_content(with_identity(before, credentials), body)
    if "signed_hex" in case:
        assert content.hex() == case["signed_hex"]
    else:
        assert (len(content), hashlib.sha256(content).hexdigest()) == (case["signed_len"], case["signed_sha256"])
    assert sign(content, case["secret_key"]) == case["signature"]
    assert signed_fields(before, body, credentials) == case["ext_after"]
    assert before == untouched


def with_identity(fields: dict[str, str] | None, credentials: Credentials) -> dict[str, str | None]:
    known: dict[str, str | None] = {**(fields or {}), ACCESS_KEY: credentials.access_key}
    if credentials.security_token is not None:
        known[SECURITY_TOKEN] = credentials.security_token
    return known


@vector("acl", "hmac")
def test_hmac(case: dict[str, Any]) -> None:
    algorithm = case["algorithm"].removeprefix("Hmac").lower()
    assert sign(bytes.fromhex(case["data_hex"]), case["key"], algorithm) == case["signature"]
