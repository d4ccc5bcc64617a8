"""Where a topic lives: queues, brokers, and what follows from them for senders and consumers.

Source: Apache RocketMQ 5.3.3, module remoting, classes ``TopicRouteData``, ``QueueData``, ``BrokerData``; module common,
classes ``MessageQueue``, ``PermName``; module client, class ``MQClientInstance`` (``topicRouteData2TopicPublishInfo`` and its
twin).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import total_ordering

from grocketmq.hashing import to_int32, utf16_order

__all__ = [
    "MASTER_ID",
    "BrokerData",
    "MessageQueue",
    "Permission",
    "QueueData",
    "TopicPublishInfo",
    "TopicQueueMappingInfo",
    "TopicRouteData",
    "publish_info",
    "subscribe_queues",
]

#: The broker id of a master; slaves have larger ones.
MASTER_ID = 0


class Permission:
    """Bits of a queue's ``perm``."""

    INHERIT = 1 << 0
    WRITE = 1 << 1
    READ = 1 << 2
    ALL = INHERIT | WRITE | READ

    @staticmethod
    def text(perm: int) -> str:
        """``RWX`` with a dash for each bit that is not set; X is to inherit."""
        bits = ((Permission.READ, "R"), (Permission.WRITE, "W"), (Permission.INHERIT, "X"))
        return "".join(letter if perm & bit else "-" for bit, letter in bits)

    @staticmethod
    def is_valid(perm: int) -> bool:
        """Whether brokers take it for a topic."""
        return 0 <= perm <= Permission.ALL


@total_ordering
@dataclass(frozen=True, slots=True)
class MessageQueue:
    """One queue of a topic on one broker; ordered as Java orders it, by UTF-16 code units.

    :param topic: the topic's name.
    :param broker_name: the broker's name, which is not its address.
    :param queue_id: the queue's number on that broker, from 0.
    """

    topic: str
    broker_name: str
    queue_id: int
    # Queues are the keys of many tables, and are looked up for every message.
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.topic, self.broker_name, self.queue_id)))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[type[MessageQueue], tuple[str, str, int]]:
        """Made anew where it is unpickled: another process hashes strings otherwise."""
        return MessageQueue, (self.topic, self.broker_name, self.queue_id)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, MessageQueue):
            return NotImplemented
        if self.topic != other.topic:
            return utf16_order(self.topic) < utf16_order(other.topic)
        if self.broker_name != other.broker_name:
            return utf16_order(self.broker_name) < utf16_order(other.broker_name)
        # Java compares by a 32-bit subtraction, which wraps round.
        return to_int32(self.queue_id - other.queue_id) < 0


@dataclass(frozen=True)
class QueueData:
    """How many queues of a topic one broker has, and what may be done with them."""

    broker_name: str
    read_queue_nums: int
    write_queue_nums: int
    perm: int
    topic_sys_flag: int = 0

    @property
    def readable(self) -> bool:
        """Whether consumers may pull from it."""
        return bool(self.perm & Permission.READ)

    @property
    def writable(self) -> bool:
        """Whether producers may send to it."""
        return bool(self.perm & Permission.WRITE)


@dataclass(frozen=True)
class BrokerData:
    """The addresses of one broker name: broker id (0 is the master) to ``host:port``."""

    broker_name: str
    broker_addrs: Mapping[int, str]
    cluster: str = ""
    zone_name: str | None = None
    enable_acting_master: bool = False

    @property
    def master(self) -> str | None:
        """The master's address, None while it has none."""
        return self.broker_addrs.get(MASTER_ID)

    @property
    def any_address(self) -> str | None:
        """The master's address, a slave's while it has none; None without either."""
        return self.master or next(iter(self.broker_addrs.values()), None)


@dataclass(frozen=True)
class TopicQueueMappingInfo:
    """Which queues of a static topic live on one broker at present; the topic's number of queues stays as brokers come and go.

    :param topic: the topic's name.
    :param scope: what tells topics of one name apart that span several clusters.
    :param total_queues: how many queues the topic has.
    :param bname: the broker's name.
    :param epoch: grows with each move of queues; of two brokers that claim one, the larger has it.
    :param dirty: whether the broker is still putting it together.
    :param curr_id_map: the topic's queue ids here, to those of the broker's own queues.
    """

    topic: str = ""
    scope: str | None = None
    total_queues: int = 0
    bname: str = ""
    epoch: int = 0
    dirty: bool = False
    curr_id_map: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class TopicRouteData:
    """A name server's answer about one topic."""

    queue_datas: tuple[QueueData, ...] = ()
    broker_datas: tuple[BrokerData, ...] = ()
    order_topic_conf: str | None = None
    filter_server_table: Mapping[str, object] = field(default_factory=dict)
    topic_queue_mapping_by_broker: Mapping[str, TopicQueueMappingInfo] | None = None

    def normalised(self) -> TopicRouteData:
        """The same route with its lists sorted, so that two routes that mean the same compare equal."""
        return TopicRouteData(
            tuple(sorted(self.queue_datas, key=lambda data: utf16_order(data.broker_name))),
            tuple(sorted(self.broker_datas, key=lambda data: utf16_order(data.broker_name))),
            self.order_topic_conf,
            self.filter_server_table,
            self.topic_queue_mapping_by_broker,
        )

    def broker(self, broker_name: str) -> BrokerData | None:
        """The broker of that name, None if the route has none."""
        for data in self.broker_datas:
            if data.broker_name == broker_name:
                return data
        return None


@dataclass(frozen=True)
class TopicPublishInfo:
    """Where a producer may send a topic's messages.

    :param topic: the topic's name.
    :param queues: all writable queues, in the order of the route.
    :param order_topic: whether an operator fixed the queues' order for ordered messages.
    """

    topic: str
    queues: tuple[MessageQueue, ...]
    order_topic: bool = False


#: Goes through many things as they are; a caller may let other greenlets run meanwhile.
Pace = Callable[[Iterable[MessageQueue]], Iterable[MessageQueue]]


def publish_info(topic: str, route: TopicRouteData, pace: Pace = iter) -> TopicPublishInfo:
    """The queues a producer may send to; never blocks.

    With an order configuration (``broker:count;broker:count``) its queues in its order.  Of a static topic each of its queues,
    at the broker that has it now, which answers ``NotLeaderError`` when it has it no more.  Else those of every writable
    broker that has a master, brokers in name order; an acting master, a slave that stands in, is not writable.

    :param topic: the topic's name.
    :param route: its route.
    :param pace: goes through the queues.
    """
    if route.order_topic_conf:
        pairs = [entry.split(":") for entry in route.order_topic_conf.split(";") if ":" in entry]
        ordered = (MessageQueue(topic, name, i) for name, count in pairs for i in range(int(count)))
        return TopicPublishInfo(topic, tuple(pace(ordered)), order_topic=True)
    masters = {data.broker_name for data in route.broker_datas if data.master}
    if route.topic_queue_mapping_by_broker:
        return TopicPublishInfo(topic, _static_queues(topic, route.topic_queue_mapping_by_broker, masters))
    writable = [data for data in route.normalised().queue_datas if data.writable and data.broker_name in masters]
    queues = (MessageQueue(topic, data.broker_name, i) for data in writable for i in range(data.write_queue_nums))
    return TopicPublishInfo(topic, tuple(pace(queues)))


def _static_queues(topic: str, mappings: Mapping[str, TopicQueueMappingInfo], brokers: set[str]) -> tuple[MessageQueue, ...]:
    """A static topic's queues, each at the broker that took it last."""
    holders: dict[int, tuple[int, str]] = {}
    for name, mapping in mappings.items():
        for queue_id in mapping.curr_id_map:
            holders[queue_id] = max(holders.get(queue_id, (-1, "")), (mapping.epoch, mapping.bname or name))
    return tuple(MessageQueue(topic, name, queue_id) for queue_id, (_, name) in sorted(holders.items()) if name in brokers)


def subscribe_queues(topic: str, route: TopicRouteData, pace: Pace = iter) -> tuple[MessageQueue, ...]:
    """All queues a consumer may pull from, sorted; a broker needs no master for that.  Never blocks.

    Those of a static topic carry the name of the broker that has them now.  Java gives them a name that is no broker's, so a
    group must not mix both on such a topic.

    :param topic: the topic's name.
    :param route: its route.
    :param pace: goes through the queues.
    """
    if route.topic_queue_mapping_by_broker:
        brokers = {data.broker_name for data in route.broker_datas}
        return tuple(sorted(_static_queues(topic, route.topic_queue_mapping_by_broker, brokers)))
    readable = [data for data in route.normalised().queue_datas if data.readable]
    queues = tuple(pace(MessageQueue(topic, data.broker_name, i) for data in readable for i in range(data.read_queue_nums)))
    repeated = len({data.broker_name for data in readable}) < len(readable)
    return tuple(sorted(queues)) if repeated else queues  # of brokers that differ they are sorted as they are made
