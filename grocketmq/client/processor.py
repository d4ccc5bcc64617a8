"""What brokers ask of a client.

Source: Apache RocketMQ 5.3.3, module client, class ``ClientRemotingProcessor``.
"""

from __future__ import annotations

from typing import Protocol

from grocketmq.codes import RequestCode
from grocketmq.remoting.client import RemotingClient
from grocketmq.wire.command import RemotingCommand

__all__ = ["register_processors"]


class _Instance(Protocol):
    def rebalance_soon(self) -> None: ...


def register_processors(remoting: RemotingClient, instance: _Instance) -> None:
    """Serve brokers' requests; never blocks.

    :param remoting: over whose connections they come.
    :param instance: what they are about.
    """

    def consumer_ids_changed(request: RemotingCommand, address: str) -> None:
        """Oneway: a member joined or left a group that has a consumer here."""
        instance.rebalance_soon()

    remoting.register_processor(RequestCode.NOTIFY_CONSUMER_IDS_CHANGED, consumer_ids_changed)
