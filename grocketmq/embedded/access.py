"""Access control: requests must be signed by the one account there is.

Source: Apache RocketMQ 5.5.0, module auth, class ``DefaultAuthenticationHandler``: the remarks, and code 16 for all of them.
"""

from __future__ import annotations

from hmac import compare_digest

from grocketmq.codes import ResponseCode
from grocketmq.remoting.server import Channel, Handler, Refused
from grocketmq.wire.acl import ACCESS_KEY, SIGNATURE, Credentials, sign, signed_content
from grocketmq.wire.command import RemotingCommand

__all__ = ["signed_only"]


def signed_only(handler: Handler, credentials: Credentials) -> Handler:
    """A handler that refuses what is not signed by this account.

    :param handler: serves what is.
    :param credentials: the account.
    """

    def serve(request: RemotingCommand, channel: Channel) -> RemotingCommand | None:
        fields = request.ext_fields or {}
        account = fields.get(ACCESS_KEY)
        if not account:
            raise Refused(ResponseCode.NO_PERMISSION, "username cannot be null.")
        if account != credentials.access_key:
            raise Refused(ResponseCode.NO_PERMISSION, f"User:{account} is not found.")
        expected = sign(signed_content(fields, request.body), credentials.secret_key)
        if not compare_digest(expected.encode(), (fields.get(SIGNATURE) or "").encode()):
            raise Refused(ResponseCode.NO_PERMISSION, "check signature failed.")
        return handler(request, channel)

    return serve
