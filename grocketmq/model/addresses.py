"""Names and addresses of clients and brokers.

Source: Apache RocketMQ 5.3.3, module client, class ``ClientConfig``; module common, class ``MixAll``.
"""

from __future__ import annotations

__all__ = ["client_id", "vip_address"]

#: A broker listens on a second port, this far below the first, for senders only.
_VIP_PORT_DISTANCE = 2


def client_id(ip: str, instance_name: str, unit_name: str | None = None, *, stream: bool = False) -> str:
    """By which brokers know a client; clients of one group must differ in it.

    :param ip: the client's address.
    :param instance_name: what tells it from other clients at that address.
    :param unit_name: its unit; None or blank for none.
    :param stream: whether its requests are marked as those of a stream.
    """
    pieces = [ip, instance_name]
    if unit_name and not unit_name.isspace():
        pieces.append(unit_name)
    if stream:
        pieces.append("STREAM")
    return "@".join(pieces)


def vip_address(address: str) -> str:
    """The address of a broker's second port, which takes sends only and so is never held up by pulls.

    :param address: ``host:port`` of the broker, as routes give it.
    """
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) - _VIP_PORT_DISTANCE}"
