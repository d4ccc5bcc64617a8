"""Looks at everything between this process and a cluster, and says what to do about what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import perf_counter

import gevent
import greenlet
from gevent.monkey import is_module_patched

from grocketmq import Credentials, GRocketMQError, PullConsumer, RemotingError
from grocketmq.client.config import ClientConfig
from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.errors import TLSError
from grocketmq.model.namespace import DEFAULT_TOPIC
from grocketmq.remoting.client import RemotingClient
from grocketmq.remoting.tls import TLSOption, tls_connector
from grocketmq.runtime.lag import HubLag
from grocketmq.runtime.tasks import TaskGroup
from grocketmq.wire.command import RemotingCommand

__all__ = ["Finding", "examine"]

#: Modules that a patched program patches together.
_PATCHED_TOGETHER = ("socket", "ssl", "select", "threading", "time", "queue", "subprocess")
#: Seconds that an address may take.
_TIMEOUT = 3.0
#: Seconds to watch the event loop, and lateness that is worth a word.
_LOOK, _LATE = 0.5, 0.1
_MAX_TOPICS = 50


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    :param level: ``ok``, ``note`` or ``FAIL``.
    :param what: what was found.
    :param advice: what to do about it.
    """

    level: str
    what: str
    advice: str = ""


def examine(namesrv: str, tls: TLSOption = None, credentials: Credentials | None = None) -> Iterator[Finding]:
    """Look at the process, then at the name servers, then at the brokers as clients see them; blocks up to 3 s for each.

    :param namesrv: as clients take it.
    :param tls: as clients take it.
    :param credentials: who the client is.  Default: nobody.
    :raises ConfigError: when it names no name server, or for files of ``tls`` that cannot be used.
    """
    config = ClientConfig(namesrv=namesrv, tls=tls, credentials=credentials)
    yield from _process()
    tasks = TaskGroup("doctor")
    remoting = RemotingClient(
        tasks,
        connect_timeout=_TIMEOUT,
        open_stream=None if config.tls_config is None else tls_connector(config.tls_config),
        credentials=credentials,
    )
    answering = []
    try:
        for address in config.namesrv_addresses:
            finding = _ask(remoting, "name server", address, RequestCode.GET_ALL_TOPIC_LIST_FROM_NAMESERVER)
            if finding.level == "ok":
                answering.append(address)
            yield finding
        if answering:
            yield from _brokers(remoting, replace(config, namesrv=answering))
    finally:
        remoting.close(0)
        tasks.kill()


def _process() -> Iterator[Finding]:
    hub = gevent.get_hub()
    yield Finding(
        "ok",
        f"Python {sys.version.split()[0]}, gevent {gevent.__version__} on {type(hub.loop).__module__.rpartition('.')[2]}, "
        f"greenlet {greenlet.__version__}, resolver {type(hub.resolver).__module__.rpartition('.')[2]}",
    )
    patched = [name for name in _PATCHED_TOGETHER if is_module_patched(name)]
    missing = [name for name in _PATCHED_TOGETHER if name in sys.modules and not is_module_patched(name)]
    if patched and missing:
        yield Finding(
            "note",
            f"this process is patched in part: {', '.join(missing)} are not",
            "call gevent.monkey.patch_all() first of all, without switching parts off",
        )
    else:
        yield Finding(
            "ok", "this process is monkey-patched" if patched else "this process is not monkey-patched, which is fine"
        )
    lag = HubLag()
    gevent.sleep(_LOOK)
    lag.close()
    if lag.worst > _LATE:
        yield Finding(
            "note", f"the event loop was {lag.worst * 1000:.0f} ms late", "this machine is busy; timeouts will be, too"
        )
    else:
        yield Finding("ok", f"the event loop was {lag.worst * 1000:.0f} ms late at most")


def _ask(remoting: RemotingClient, kind: str, address: str, code: int) -> Finding:
    began = perf_counter()
    try:
        answer = remoting.invoke(address, RemotingCommand(code), _TIMEOUT)
    except RemotingError as error:
        if isinstance(error, TLSError):
            advice = "check that it takes TLS, which authority signed its certificate, and for which host"
        elif kind == "broker":
            advice = (
                "name servers tell every client to use this address; where the broker runs in a container or behind NAT, set "
                "brokerIP1 in its configuration to an address that clients can reach, and open its port"
            )
        else:
            advice = "check the address and the port, that it runs, and firewalls in between"
        return Finding("FAIL", f"{kind} {address}: {error}", advice)
    if answer.code != ResponseCode.SUCCESS:
        return Finding(
            "note",
            f"{kind} {address} answers, with code {answer.code}: {answer.remark}",
            "this account may not ask it for its state; check the keys if it should do what clients do",
        )
    return Finding("ok", f"{kind} {address} answers within {(perf_counter() - began) * 1000:.0f} ms")


def _brokers(remoting: RemotingClient, config: ClientConfig) -> Iterator[Finding]:
    options = {"namesrv": config.namesrv_addresses, "tls": config.tls, "credentials": config.credentials}
    with PullConsumer("grocketmq_doctor", **options) as client:
        topics = client.topic_list()
        found: dict[str, str] = {}
        for topic in [DEFAULT_TOPIC, *topics[:_MAX_TOPICS]]:
            try:
                route = client.topic_route(topic)
            except GRocketMQError:
                continue
            for data in route.broker_datas:
                for broker_id, address in data.broker_addrs.items():
                    found[address] = f"{data.broker_name}:{broker_id}"
    if not found:
        yield Finding(
            "FAIL",
            f"no broker is known to {', '.join(config.namesrv_addresses)} (looked at {min(len(topics), _MAX_TOPICS)} topics)",
            "start a broker with namesrvAddr set to these name servers, and create a topic",
        )
    for address in sorted(found):
        yield _ask(remoting, "broker", address, RequestCode.GET_BROKER_RUNTIME_INFO)
