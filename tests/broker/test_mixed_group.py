"""Members of ours and of Java's in one group share a topic's queues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

import gevent
import pytest

from grocketmq import Message, PushConsumer
from tests.helpers import wait_for

from .clients import ARRIVAL, Inbox, Member, all_queues, assigned, new_consumer, numbered, producing, send_bodies
from .cluster import RealCluster
from .conftest import Pair
from .java_driver import JavaConsumer, JavaDriver

#: Queues of a broker.
QUEUES = 4


class Ours:
    """A member in this process."""

    def __init__(self, consumer: PushConsumer, inbox: Inbox) -> None:
        self._consumer = consumer
        self._inbox = inbox

    @property
    def bodies(self) -> list[bytes]:
        return self._inbox.bodies

    def assigned(self) -> set[tuple[str, str, int]]:
        return assigned(self._consumer)


class Group:
    """The members of a group, and what came to all that ever were.

    Leaves nothing running at the end of ``stack``.
    """

    def __init__(self, cluster: RealCluster, group: str, topic: str, stack: ExitStack) -> None:
        self._cluster, self._group, self._topic = cluster, group, topic
        self._stack = stack
        self._ever: list[Ours | JavaConsumer | Member] = []
        self._ends: dict[Ours | JavaConsumer | Member, Callable[[], object]] = {}
        stack.callback(self._end)

    def ours(self) -> Ours:
        """Let a member of this process join."""
        inbox = Inbox()
        consumer = new_consumer(self._cluster, self._group, self._topic, inbox)
        member = Ours(consumer, inbox)
        self._join(member, consumer.shutdown)
        consumer.start()
        return member

    def java(self, driver: JavaDriver, end: Callable[[], object] | None = None) -> JavaConsumer:
        """Let a Java member join."""
        member = driver.consume(self._group, self._topic)
        self._join(member, end or member.stop)
        return member

    def process(self) -> Member:
        """Let a member in a process of its own join, which does not leave but is killed."""
        member = Member(self._cluster, self._group, self._topic)
        self._join(member, member.kill)
        return member

    def leave(self, member: Ours | JavaConsumer | Member) -> None:
        """Let a member leave in its way."""
        self._ends.pop(member)()

    @property
    def members(self) -> list[Ours | JavaConsumer | Member]:
        """Those that are in the group now."""
        return list(self._ends)

    def shares(self) -> list[set[tuple[str, str, int]]]:
        """The queues of each member, retry topic aside."""
        return [{queue for queue in member.assigned() if queue[0] == self._topic} for member in self._ends]

    def is_balanced(self) -> bool:
        """Whether every queue has exactly one member, and no share is larger than another by more than one."""
        shares = self.shares()
        sizes = [len(share) for share in shares]
        wanted = all_queues(self._cluster, self._topic, QUEUES)
        return sum(sizes) == len(wanted) and set().union(*shares) == wanted and max(sizes) - min(sizes) <= 1

    def wait_balanced(self) -> None:
        wait_for(self.is_balanced, ARRIVAL, "every queue has one member")

    def counts(self) -> Counter[bytes]:
        """How often each body came."""
        return Counter(body for member in self._ever for body in member.bodies)

    def wait_for_bodies(self, bodies: list[bytes]) -> None:
        wait_for(lambda: not set(bodies) - self.counts().keys(), ARRIVAL, f"every one of {len(bodies)} messages has come")

    def _join(self, member: Ours | JavaConsumer | Member, end: Callable[[], object]) -> None:
        self._ever.append(member)
        self._ends[member] = end

    def _end(self) -> None:
        for member in self.members:
            self.leave(member)


def test_four_members_share_the_queues(pair: Pair, topic_name: str, group_name: str) -> None:
    """Two of ours, two of Java's: each queue has one, and no message comes twice."""
    pair.cluster.create_topic(topic_name, QUEUES)
    with ExitStack() as stack:
        producer = stack.enter_context(producing(pair.cluster))
        group = Group(pair.cluster, group_name, topic_name, stack)
        for _ in range(2):
            group.ours()
            group.java(pair.java)
        group.wait_balanced()
        assert [len(share) for share in group.shares()] == [2, 2, 2, 2]
        bodies = numbered("balanced", 400)
        send_bodies(producer, topic_name, bodies)
        group.wait_for_bodies(bodies)
        gevent.sleep(1.0)  # for some that come twice
        assert group.is_balanced()
        assert group.counts() == Counter(bodies)
        assert all(len(member.bodies) > 50 for member in group.members)


@pytest.mark.slow
def test_nothing_is_lost_while_members_come_and_go(pair: Pair, topic_name: str, group_name: str) -> None:
    cluster = pair.cluster
    cluster.create_topic(topic_name, QUEUES)
    sent: list[bytes] = []
    with ExitStack() as stack:
        producer = stack.enter_context(producing(cluster))
        group = Group(cluster, group_name, topic_name, stack)

        def send_on() -> None:
            while True:
                sent.append(f"coming and going {len(sent)}".encode())
                producer.send(Message(topic_name, sent[-1]))
                gevent.sleep(0.01)

        sender = gevent.spawn(send_on)
        stack.callback(sender.kill)
        ours, java = group.ours(), group.java(pair.java)
        group.wait_balanced()
        doomed = group.process()
        group.ours()
        group.wait_balanced()
        group.leave(java)
        group.leave(doomed)
        group.wait_balanced()
        doomed_driver = JavaDriver(cluster.version, cluster.namesrv)
        stack.callback(doomed_driver.close)
        doomed_java = group.java(doomed_driver, doomed_driver.close)
        group.java(pair.java)
        group.wait_balanced()
        group.leave(doomed_java)
        group.leave(ours)
        group.wait_balanced()

        assert len(sent) > 100
        group.wait_for_bodies(sent[:-1])
        sender.kill()
        assert not set(group.counts()) - set(sent)
        bodies = numbered("balanced", 200)
        send_bodies(producer, topic_name, bodies)
        group.wait_for_bodies(bodies)
        assert {body: group.counts()[body] for body in bodies} == dict.fromkeys(bodies, 1)
