"""Takes a consumer's share of its topics' queues, and gives back what is no longer its.

A list of members that could not be had is not an empty list: then everything stays as it is.

Source: Apache RocketMQ 5.3.3, module client, classes ``RebalanceImpl``, ``RebalancePushImpl``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from gevent.lock import RLock

from grocketmq.client.instance import ClientInstance
from grocketmq.consumer.allocate import AllocateAveragely, AllocateByConfig, AllocateStrategy, sort_client_ids
from grocketmq.consumer.offset_store import OffsetStore
from grocketmq.consumer.process_queue import ProcessQueue
from grocketmq.consumer.pull_request import PullRequest
from grocketmq.consumer.service import QueueWork
from grocketmq.consumer.subscriptions import Subscriptions
from grocketmq.errors import GRocketMQError
from grocketmq.model.namespace import is_retry_topic
from grocketmq.model.route import MessageQueue
from grocketmq.runtime.turns import in_small_turns, in_turns

__all__ = ["Rebalance"]

log = logging.getLogger(__name__)

_FOR_RETRY_TOPICS = AllocateAveragely()

#: Seconds before the first pull of a queue that another member may hold at this moment, so that it can let go of it.
HAND_OVER_PAUSE = 0.5


class Rebalance:
    """The queues of one consumer.

    :param group: the consumer's group.
    :param instance: its instance.
    :param process_queues: the consumer's queues; changed here only.
    :param subscriptions: what it is subscribed to.
    :param strategy: how the members share the queues; None when every member gets all of them.
    :param store: the group's offsets.
    :param consuming: what works on the queues' messages.
    :param start_offset: where to begin in a queue; may block, raises when it cannot tell.
    :param pull: takes a new queue's first pull request, and the seconds before it is due.
    """

    def __init__(
        self,
        group: str,
        instance: ClientInstance,
        process_queues: dict[MessageQueue, ProcessQueue],
        subscriptions: Subscriptions,
        strategy: AllocateStrategy | None,
        store: OffsetStore,
        consuming: QueueWork,
        start_offset: Callable[[MessageQueue], int],
        pull: Callable[[PullRequest, float], None],
    ) -> None:
        #: The queues that are this consumer's now, and those it still has to let go of.
        self.process_queues = process_queues
        self._group = group
        self._instance = instance
        self._subscriptions = subscriptions
        self._strategy = strategy
        self._store = store
        self._consuming = consuming
        self._start_offset = start_offset
        self._pull = pull
        self._turn = RLock()
        self._started = False
        self._stopped = False
        self._unanswered: set[str] = set()
        #: Queues to be let go of only with their offset stored.
        self._moved: set[MessageQueue] = set()

    def start(self) -> None:
        """Take queues from now on: the brokers have heard of this member.  Never blocks."""
        self._started = True

    def run(self) -> bool:
        """One round over all topics; blocks for its calls to brokers.  Rounds never overlap.

        :returns: whether this consumer has exactly its share.
        """
        if not self._started or self._stopped:
            return True
        balanced = True
        with self._turn:
            for topic in self._subscriptions.topics():
                balanced &= self._topic(topic)
            topics = set(self._subscriptions.topics())
            self._release([queue for queue in in_turns(list(self.process_queues)) if queue.topic not in topics])
        return balanced

    def move(self, queue: MessageQueue, offset: int) -> None:
        """Go on at another offset, with nothing of before: store it, let go of the queue and have the next round take it anew.
        Blocks; a queue that is not this consumer's is passed over.

        The offset is frozen, so that listeners still at work cannot move it back, and the queue is let go of only once the
        offset is stored, or it would be taken anew where it was.

        :param queue: the queue.
        :param offset: where to go on.
        """
        held = self.process_queues.get(queue)
        if held is None:
            return
        held.dropped = True
        self._store.update_and_freeze(queue, offset)
        self._moved.add(queue)
        with self._turn:  # a round that was under way may have let go of it, and taken it anew, by then
            held = self.process_queues.get(queue)
            if held is not None and held.dropped:
                self._release([queue])
        self._instance.rebalance_soon()

    def rebuild(self, queue: MessageQueue) -> None:
        """Forget a queue and its offset without storing it; the next round takes it anew.  Blocks while a round is
        under way."""
        with self._turn:
            held = self.process_queues.pop(queue, None)
            if held is not None:
                held.dropped = True
                self._store.remove(queue)
        self._instance.rebalance_soon()

    def stop(self) -> None:
        """Take nothing more, and drop every queue without storing anything; never blocks."""
        self._stopped = True
        for process_queue in self.process_queues.values():
            process_queue.dropped = True

    def _topic(self, topic: str) -> bool:
        queues = self._instance.routes.subscribe.get(topic)
        if queues is None:
            return True  # the route task looks for it, and wakes the rebalance when it is found
        if self._strategy is None:
            return self._take(topic, list(queues), 0.0)
        client_ids = self._client_ids(topic)
        if client_ids is not None and self._instance.client_id not in client_ids:
            # The broker has not heard of this client, or has forgotten it.  Going by that list would give up every queue.
            self._instance.heartbeat_now()
            client_ids = self._client_ids(topic)
        if client_ids is None:
            return False
        if self._instance.client_id not in client_ids:
            log.warning("brokers do not count this client to group %s; it gives up its queues of %s", self._group, topic)
        strategy = self._strategy
        if isinstance(strategy, AllocateByConfig) and is_retry_topic(topic):
            strategy = _FOR_RETRY_TOPICS  # nobody lists the queues in which failed messages come again
        try:
            mine = strategy.allocate(self._instance.client_id, queues, sort_client_ids(client_ids))
        except Exception:
            log.exception("strategy %s failed for topic %s; all queues stay as they are", strategy.name, topic)
            return False
        alone = len(client_ids) == 1
        return self._take(topic, list(dict.fromkeys(in_turns(mine))), 0.0 if alone else HAND_OVER_PAUSE)

    def _client_ids(self, topic: str) -> list[str] | None:
        """The group's members, from any broker of the topic; None when no broker tells, which changes nothing."""
        failure: GRocketMQError | None = None
        for address in self._instance.routes.brokers_of(topic):
            try:
                client_ids = self._instance.api.consumer_ids(address, self._group)
            except GRocketMQError as error:
                failure = error
                continue
            self._unanswered.discard(topic)
            return client_ids
        if topic not in self._unanswered:
            self._unanswered.add(topic)
            log.warning("members of group %s unknown, queues of %s stay as they are: %s", self._group, topic, failure)
        self._instance.heartbeat_soon()
        return None

    def _take(self, topic: str, mine: list[MessageQueue], pause: float) -> bool:
        """Let go first, then take what is new."""
        now = monotonic()
        share = set(in_turns(mine))
        gone = []
        for queue, process_queue in in_turns(list(self.process_queues.items())):
            if queue.topic == topic:
                if queue not in share:
                    self._moved.discard(queue)
                    gone.append(queue)
                elif process_queue.dropped:
                    gone.append(queue)
                elif process_queue.pull_expired(now):
                    log.error("%s was not pulled for %.0f s and is built anew", queue, now - process_queue.last_pull)
                    gone.append(queue)
        balanced = self._release(gone)
        requests = self._new_requests([queue for queue in in_turns(mine) if queue not in self.process_queues])
        if gone or requests:
            log.info("group %s has %d queues of %s now", self._group, len(share), topic)
            self._subscriptions.renew(topic)
            self._instance.heartbeat_now()
        for request in in_small_turns(requests):
            self._pull(request, pause)
        return balanced and all(queue in self.process_queues for queue in in_turns(mine))

    def _new_requests(self, queues: list[MessageQueue]) -> list[PullRequest]:
        requests = []
        for queue in queues:
            if not self._consuming.acquire(queue):
                log.info("%s waits, since another member holds its lock", queue)
                continue
            self._store.remove(queue)
            try:
                offset = self._start_offset(queue)
            except GRocketMQError as error:
                if not self._stopped:  # else it is for that
                    log.warning("%s waits, since its start is unknown: %s", queue, error)
                self._consuming.release(queue)
                continue
            if self._stopped:
                self._consuming.release(queue)
                break
            # Stored with the others: whoever takes the queue next, before anything is consumed, must begin here too.
            self._store.update(queue, offset, increase_only=False)
            process_queue = self.process_queues[queue] = ProcessQueue(monotonic())
            process_queue.locked = True
            requests.append(PullRequest(queue, process_queue, offset))
        return requests

    def _release(self, queues: list[MessageQueue]) -> bool:
        """Let go of queues; one that is still worked on in order, or was moved to an offset that cannot be stored, stays
        until the next round.

        :returns: whether all were let go of.
        """
        for queue in in_turns(queues):
            self.process_queues[queue].dropped = True
        done = True
        for queue in queues:
            held = self.process_queues[queue]
            quiet = self._consuming.quiesce(queue, held)
            held.released = quiet
            held.unlock_tries += not quiet
            offset = self._store.in_memory(queue)
            settled = self._store.persist_one(queue) and self._store.in_memory(queue) == offset  # else moved meanwhile
            if quiet and (settled or queue not in self._moved):
                self._moved.discard(queue)
                self._store.remove(queue)
                self.process_queues.pop(queue, None)
                self._consuming.release(queue)
            else:
                done = False
        return done
