"""Name servers: one is kept as long as it answers; an address server may say which there are.

Source: Apache RocketMQ 5.3.3, module common, class ``DefaultTopAddressing``; module client, class ``MQClientAPIImpl``.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from urllib.parse import urlsplit

from grocketmq.errors import ConfigError, ConnectError, GRocketMQError, RemoteProtocolError, RemotingError
from grocketmq.remoting.client import RemotingClient
from grocketmq.remoting.http import http_get
from grocketmq.remoting.stream import split_address
from grocketmq.remoting.tls import TLSConfig
from grocketmq.runtime.deadline import Deadline
from grocketmq.wire.command import RemotingCommand

__all__ = ["AddressServer", "NameServers", "split_namesrv"]

log = logging.getLogger(__name__)


def split_namesrv(text: str) -> tuple[str, ...]:
    """Take ``host:port;host:port`` apart; never blocks.

    :raises ConfigError: for what is none, or names none.
    """
    addresses = tuple(piece.strip() for piece in text.split(";") if piece.strip())
    if not addresses:
        raise ConfigError(f"namesrv {text!r} names no server")
    for address in addresses:
        if "/" in address:
            raise ConfigError(f"namesrv {text!r} holds {address!r}; an address server's URL must stand alone")
        split_address(address)
    return addresses


class AddressServer:
    """Tells over HTTP which name servers there are.

    :param url: where it does; a unit has a place of its own below.
    :param unit_name: the unit, None for none.
    :param timeout: seconds for a request.
    :param tls: how ``https`` checks certificates.
    """

    def __init__(self, url: str, unit_name: str | None, timeout: float, tls: TLSConfig | None) -> None:
        if unit_name:
            parts = urlsplit(url)
            query = f"nofix=1&{parts.query}" if parts.query else "nofix=1"
            url = parts._replace(path=f"{parts.path}-{unit_name}", query=query).geturl()
        self.url = url
        self._timeout = timeout
        self._tls = tls

    def fetch(self) -> tuple[str, ...]:
        """Ask; blocks at most ``timeout`` seconds.

        :returns: ``host:port`` of each name server, at least one.
        :raises RemotingError: it does not answer.
        :raises RemoteProtocolError: what it answers names no servers.
        """
        lines = http_get(self.url, self._timeout, self._tls).strip().splitlines()
        try:
            return split_namesrv(lines[0] if lines else "")
        except ConfigError as error:
            raise RemoteProtocolError(f"{self.url} does not tell name servers: {error}") from error


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
        :raises RemotingError: when none answers; of the class of the last one's error.
        """
        deadline = Deadline(timeout)
        error: RemotingError = ConnectError("no name server is known")
        asked: set[str] = set()
        while left := [address for address in self._addresses if address not in asked]:  # they may change meanwhile
            address = left[0]
            asked.add(address)
            share = deadline.remaining() / len(left)
            if len(left) > 1 and address not in self._remoting.addresses():
                share = min(share, FIRST_CONTACT)
            try:
                answer = self._remoting.invoke(address, request, share)
            except RemotingError as failure:
                error = failure
                continue
            self._prefer(address)
            return answer, address
        which = "the name server does not answer" if len(self._addresses) == 1 else "no name server answers; the last"
        raise type(error)(f"{which}: {error}") from error

    def update(self, addresses: Sequence[str]) -> None:
        """Use these from now on; never blocks.  The chosen one is kept if it is among them, connections to others that are
        not are closed."""
        gone = [address for address in self._addresses if address not in addresses]
        new = [address for address in addresses if address not in self._addresses]
        if not gone and not new:
            return
        log.info("name servers now: %s", ", ".join(addresses))
        self._addresses = [address for address in self._addresses if address in addresses] + random.sample(new, len(new))
        for address in gone:
            self._remoting.forget(address)

    def refresh(self, server: AddressServer) -> None:
        """Ask an address server which name servers there are; blocks as it does.  What is known stays when it fails."""
        try:
            self.update(server.fetch())
        except GRocketMQError as error:
            log.warning("name servers not fetched, those that are known stay: %s", error)

    def _prefer(self, address: str) -> None:
        """Keep the one that answered as the first; those that did not go to the end."""
        if self._addresses[0] != address and address in self._addresses:  # else it has left the list meanwhile
            at = self._addresses.index(address)
            self._addresses = self._addresses[at:] + self._addresses[:at]
