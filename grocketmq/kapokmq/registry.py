"""What the servers of a cluster are: asked of the Serena registry, or of a server.

Source: dpwgc/serena, commit 6826679; dpwgc/kapokmq, commit a8c2c0c, ``cluster/join.go``.
"""

from __future__ import annotations

from typing import Any

from grocketmq.errors import RemoteProtocolError
from grocketmq.kapokmq.http import HttpClient
from grocketmq.kapokmq.message import Node
from grocketmq.remoting.tls import TLSOption

__all__ = ["REGISTRY_PATH", "get_nodes", "nodes_from"]

REGISTRY_PATH = "/Registry/GetNodes"


def get_nodes(
    protocol: str,
    addr: str,
    port: int,
    secret_key: str,
    *,
    timeout: float = 5.0,
    ssl_context: TLSOption = None,
) -> list[Node]:
    """The servers that a Serena registry lists; blocks its greenlet.

    A server that died is listed for some seconds still, and a registry that was restarted lists none at first.

    :param protocol: ``http`` or ``https``.
    :param addr: host name or address of the registry.
    :param port: its HTTP port.
    :param secret_key: the registry's.
    :param timeout: seconds.
    :param ssl_context: for ``https``, an ``ssl.SSLContext`` or a ``TLSConfig``; None for the system's authorities.
    :returns: sorted by name; empty when it lists none.
    :raises AuthError: the registry refused the secret key.
    :raises RemotingError: it was not reached, or did not answer in time.
    :raises RemoteProtocolError: its answer is no list of servers.
    """
    answer = HttpClient(protocol, addr, port, secret_key, timeout, ssl_context).post(REGISTRY_PATH)
    return nodes_from(answer, f"{addr}:{port}{REGISTRY_PATH}")


def nodes_from(answer: Any, where: str) -> list[Node]:
    """The servers of an answer; it is ``null`` when there are none.

    :param where: who answered, for the error.
    """
    nodes = set()
    if not isinstance(answer, list | None):
        raise RemoteProtocolError(f"{where}: the answer is no list of nodes but {answer!r:.60}")
    for entry in answer or []:
        try:
            name, addr, port = entry["Name"], entry["Addr"], entry["Port"]
            fits = (
                isinstance(name, str)
                and isinstance(addr, str)
                and isinstance(port, str)
                and port.isascii()
                and port.isdecimal()
            )
        except (TypeError, KeyError):
            fits = False
        if not fits:
            raise RemoteProtocolError(
                f"{where}: Name, Addr and Port of a node are texts, Port of digits; this one is {entry!r:.100}"
            )
        nodes.add(Node(name, addr, int(port[:6])))
    return sorted(nodes)
