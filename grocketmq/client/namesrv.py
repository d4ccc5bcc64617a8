"""Name servers: one is kept as long as it answers."""

from __future__ import annotations

import random
from collections.abc import Sequence

from grocketmq.errors import ConnectError, RemotingError
from grocketmq.remoting.client import RemotingClient
from grocketmq.runtime.deadline import Deadline
from grocketmq.wire.command import RemotingCommand

__all__ = ["NameServers"]

#: Seconds for the connection to a name server and its first answer, while there are others to ask.  One that is slower goes on
#: connecting meanwhile.
FIRST_CONTACT = 0.5


class NameServers:
    """Asks the chosen name server, and the next one when it does not answer.

    Every call tries each server at most once; Java fails the call and tries the next server with the next call.

    :param remoting: makes the calls.
    :param addresses: ``host:port`` of each; their order is shuffled, so that clients spread over them.
    """

    def __init__(self, remoting: RemotingClient, addresses: Sequence[str]) -> None:
        self._remoting = remoting
        self._addresses = random.sample(list(addresses), len(addresses))

    @property
    def addresses(self) -> list[str]:
        """All name servers, the chosen one first."""
        return list(self._addresses)

    def invoke(self, request: RemotingCommand, timeout: float) -> tuple[RemotingCommand, str]:
        """Ask; blocks at most ``timeout`` seconds.

        :param request: what to ask.
        :param timeout: seconds for all servers together; each may take its share of what is left.
        :returns: the answer and who gave it.
        :raises RemotingError: the last server's, when none answers.
        """
        deadline = Deadline(timeout)
        error: RemotingError = ConnectError("no name server is known")
        for left, address in zip(range(len(self._addresses), 0, -1), self._addresses, strict=True):
            share = deadline.remaining() / left
            if left > 1 and address not in self._remoting.addresses():
                share = min(share, FIRST_CONTACT)
            try:
                answer = self._remoting.invoke(address, request, share)
            except RemotingError as failure:
                error = failure
                continue
            self._prefer(address)
            return answer, address
        raise error

    def _prefer(self, address: str) -> None:
        """Keep the one that answered as the first; those that did not go to the end."""
        if self._addresses[0] != address:
            at = self._addresses.index(address)
            self._addresses = self._addresses[at:] + self._addresses[:at]
