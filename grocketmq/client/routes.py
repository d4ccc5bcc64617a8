"""The route table: which brokers there are, where each topic's queues live, who may be asked for what.

The tables change only in :meth:`RouteTable.update`, :meth:`RouteTable.forget` and :meth:`RouteTable.drop_offline`; none of them
switches while it changes them.
"""

from __future__ import annotations

from dataclasses import replace

from grocketmq.errors import RouteNotFoundError
from grocketmq.model.route import (
    MASTER_ID,
    MessageQueue,
    TopicPublishInfo,
    TopicRouteData,
    publish_info,
    subscribe_queues,
)
from grocketmq.runtime.turns import in_turns

__all__ = ["RouteTable", "derived_route"]


class RouteTable:
    """What the name servers said last."""

    def __init__(self) -> None:
        #: Topic -> its route (TopicRouteTable).
        self.routes: dict[str, TopicRouteData] = {}
        #: Broker name -> broker id -> address (BrokerAddrTable).
        self.broker_addrs: dict[str, dict[int, str]] = {}
        #: Topic -> where producers may send (TopicPublishInfoTable).
        self.publish: dict[str, TopicPublishInfo] = {}
        #: Topic -> where consumers may pull, sorted (TopicSubscribeInfoTable).
        self.subscribe: dict[str, tuple[MessageQueue, ...]] = {}

    def update(self, topic: str, route: TopicRouteData) -> bool:
        """Take over a route; of many queues it lets other greenlets run before it changes anything.

        :param topic: the topic's name.
        :param route: what a name server said.
        :returns: whether anything changed.
        """
        route = route.normalised()
        if self.routes.get(topic) == route:
            return False
        publish, subscribe = publish_info(topic, route, in_turns), subscribe_queues(topic, route, in_turns)
        self.routes[topic] = route
        for data in route.broker_datas:
            self.broker_addrs[data.broker_name] = dict(data.broker_addrs)
        self.publish[topic] = publish
        self.subscribe[topic] = subscribe
        return True

    def forget(self, topic: str) -> None:
        """Drop a topic that nobody uses any more; never blocks."""
        for table in (self.routes, self.publish, self.subscribe):
            table.pop(topic, None)

    def drop_offline(self) -> list[str]:
        """Drop the addresses that no route names any more; never blocks.

        :returns: the addresses dropped.
        """
        named = {
            (data.broker_name, address)
            for route in self.routes.values()
            for data in route.broker_datas
            for address in data.broker_addrs.values()
        }
        dropped = []
        for name, addrs in list(self.broker_addrs.items()):
            for broker_id, address in list(addrs.items()):
                if (name, address) not in named:
                    dropped.append(address)
                    del addrs[broker_id]
            if not addrs:
                del self.broker_addrs[name]
        return dropped

    def master(self, broker_name: str) -> str | None:
        """The address of a broker's master, None while none is known."""
        return self.broker_addrs.get(broker_name, {}).get(MASTER_ID)

    def broker_for_pull(self, queue: MessageQueue, broker_id: int) -> tuple[str, int]:
        """Whom to pull from.

        :param queue: what is pulled.
        :param broker_id: the member the broker suggested last.
        :returns: address and id: the one suggested, for a slave the next one, else any.
        :raises RouteNotFoundError: when none of the broker's members is known.
        """
        addrs = self.broker_addrs.get(queue.broker_name, {})
        candidates = (broker_id,) if broker_id == MASTER_ID else (broker_id, broker_id + 1)
        for one in candidates:
            if one in addrs:
                return addrs[one], one
        for one, address in sorted(addrs.items()):
            return address, one
        raise RouteNotFoundError(queue.topic, f"no address of broker {queue.broker_name} is known")

    def members(self) -> list[tuple[str, int, str]]:
        """Every known broker: name, id, address."""
        return [(name, one, address) for name, addrs in self.broker_addrs.items() for one, address in addrs.items()]

    def brokers_of(self, topic: str) -> list[str]:
        """One address of each broker that has the topic, its master's if it has one."""
        route = self.routes.get(topic, TopicRouteData())
        return [address for data in route.broker_datas if (address := data.any_address)]


def derived_route(route: TopicRouteData, queue_nums: int) -> TopicRouteData:
    """The route that a topic will have once a broker has created it from the default topic.

    :param route: the default topic's.
    :param queue_nums: the most queues a producer asks for.
    """
    datas = tuple(
        replace(
            data,
            read_queue_nums=min(queue_nums, data.read_queue_nums),
            write_queue_nums=min(queue_nums, data.read_queue_nums),
        )
        for data in route.queue_datas
    )
    return replace(route, queue_datas=datas)
