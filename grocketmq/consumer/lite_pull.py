"""``LitePullConsumer``: messages are fetched ahead, and the application asks for them when it wants some.

The way of a message: the rebalance or :meth:`LitePullConsumer.assign` takes a queue; a greenlet pulls it
(``lite_pulls``) and keeps the messages (``lite_queues``); a poll hands them out and so moves the queue's position; a commit
stores the position (``offset_store``).

Source: Apache RocketMQ 5.3.3, module client, class ``DefaultLitePullConsumerImpl``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import monotonic

from grocketmq.consumer.lite_member import LiteMember
from grocketmq.consumer.lite_queues import AssignedQueue
from grocketmq.consumer.stats import ConsumerStats
from grocketmq.errors import ClientStateError, ConfigError
from grocketmq.model.message import MessageExt
from grocketmq.model.route import MessageQueue
from grocketmq.model.subscription import ALL, Sql
from grocketmq.model.validators import check_topic
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.lifecycle import ServiceState
from grocketmq.runtime.turns import in_turns

__all__ = ["LitePullConsumer"]

#: Seconds that a poll waits for messages.
POLL_TIMEOUT = 5.0


class LitePullConsumer(LiteMember):
    """Gives messages to whoever polls; they are pulled in the background.

    Queues come to it in one of two ways, which cannot be mixed: :meth:`subscribe` shares a topic's queues among the members of
    the group, and :meth:`assign` takes the queues it is told, whoever else reads them.

    ::

        consumer = LitePullConsumer("billing", auto_commit=False, namesrv="127.0.0.1:9876")
        consumer.subscribe("orders", "created || changed")
        with consumer:
            while True:
                for msg in consumer.poll():
                    print(msg.msg_id, msg.body)
                consumer.commit()

    Each queue has a *position*: the first offset that no poll has handed out.  A commit stores positions, and who gets the
    queue next (after a crash, a restart or a rebalance) begins at the one stored last.

    * With ``auto_commit=False``, :meth:`commit` stores them.  Called when everything handed out so far is done,
      every message is done at least once, whatever crashes: what was handed out since the last commit comes again.
    * With ``auto_commit=True``, a poll notes, at most every ``auto_commit_interval`` seconds, the positions that *earlier*
      polls reached, before it hands out more; they are stored within ``persist_offset_interval``.  So asking for more is
      taken as word that everything before is done.  That is at least once too, for one greenlet that polls, does the work,
      and polls again; what it got last is not committed when it stops, and comes again, unless :meth:`commit` is called.
      It is *not* at least once when several greenlets poll, or when messages are still worked on elsewhere at the next
      poll: then a crash can lose those.  Commit by hand in that case.

    A message that cannot be processed is the application's to deal with: nothing is delivered again but from the position.

    :param group: the consumer group's name; its members must subscribe to the same topics with the same expressions.
    :param options: fields of :class:`~grocketmq.consumer.config.LitePullConsumerConfig` and
        :class:`~grocketmq.client.config.ClientConfig`.
    :raises ConfigError: for a group, a name server or a setting that cannot work.
    """

    # -- what to consume -----------------------------------------------------------------------------------------------------

    def subscribe(self, topic: str, expression: str | Sql = ALL) -> None:
        """Share a topic's queues with the group; before ``start()`` or while running, where it blocks for calls to brokers.

        :param topic: the topic's name.
        :param expression: ``"*"``, tags joined by ``||``, or a :class:`~grocketmq.model.subscription.Sql` filter.
        :raises ConfigError: for an expression without a tag or one that a broker refuses, and after :meth:`assign`.
        :raises MessageError: for a topic name that brokers refuse.
        """
        self._check_not_stopped()
        if self._wanted is not None:
            raise ConfigError(f"{self!r} has assigned queues; a consumer either subscribes or assigns")
        check_topic(topic)
        self._subscriptions.add(topic, expression)
        self._subscribed([topic])

    def unsubscribe(self, topic: str) -> None:
        """Give a topic's queues back; blocks for calls to brokers while running.

        :param topic: the topic's name; one that is not subscribed to is ignored.
        """
        self._check_not_stopped()
        if self._wanted is None:
            self._subscriptions.remove(topic)
            if self.state is ServiceState.RUNNING:
                self._check_running()
                self._instance.heartbeat_now()
                self.rebalance()

    def assign(self, queues: Iterable[MessageQueue], expression: str | Sql = ALL) -> None:
        """Take these queues and no others, without regard to other members; before ``start()`` or while running, where it
        blocks for calls to brokers.

        Offsets are those of the group all the same, so two consumers of a group should not assign the same queue.

        :param queues: at least one; those it has already go on where they are.
        :param expression: as in :meth:`subscribe`, for all of them.
        :raises ConfigError: for no queue, for an expression as in :meth:`subscribe`, and after it.
        """
        self._check_not_stopped()
        if self._wanted is None and self._subscriptions:
            raise ConfigError(f"{self!r} has subscribed to topics; a consumer either subscribes or assigns")
        wanted = frozenset(queues)
        if not wanted:
            raise ConfigError(f"{self!r}: assign at least one queue")
        topics = {queue.topic for queue in wanted}
        for topic in topics:
            check_topic(topic)
            self._subscriptions.add(topic, expression)
        for topic in set(self._subscriptions.topics()) - topics:
            self._subscriptions.remove(topic)
        self._wanted = wanted
        self._subscribed(topics)

    def fetch_subscribe_queues(self, topic: str) -> list[MessageQueue]:
        """All queues of a topic that can be read, sorted; blocks at most 3 s, while its route is fetched.

        :param topic: the topic's name.
        :raises RouteNotFoundError: when no name server knows it.
        """
        self._check_running()
        return list(self._instance.subscribe_queues(topic))

    def queues(self) -> list[MessageQueue]:
        """The queues it has at present, sorted; never blocks."""
        self._check_running()
        return sorted(assigned.queue for assigned in self._queues if not assigned.held.dropped)

    def stats(self) -> ConsumerStats:
        """What it has done, at what rates, and what it has left to do; lets other greenlets run when it has many queues."""
        return self._stats.snapshot(monotonic(), self._process_queues)

    # -- getting messages ----------------------------------------------------------------------------------------------------

    def poll(self, timeout: float | None = POLL_TIMEOUT) -> list[MessageExt]:
        """The next messages, all of one queue and in its order; blocks while there are none.

        Queues with messages take turns.  What is returned counts as handed out, and moves the queue's position.

        :param timeout: seconds to wait, 0 for not at all, None for as long as it takes.
        :returns: at most ``pull_batch_size`` messages; none when no message came in time.
        :raises ClientStateError: also when it is shut down meanwhile, at once.
        :raises ConfigError: when it has neither subscribed nor assigned anything.
        """
        return self._poll(self.settings.pull_batch_size, None if timeout is None else Deadline(timeout))

    def __iter__(self) -> Iterator[MessageExt]:
        """One message after the other, as if each were polled; the loop ends when the consumer is shut down.

        Only the messages that the loop has got count as handed out, so breaking out of it loses none.
        """
        self._check_running()
        return self._messages()

    def _messages(self) -> Iterator[MessageExt]:
        while True:
            try:
                batch = self._poll(1, None)
            except ClientStateError:
                if self.state is ServiceState.RUNNING:  # a forked child must not take it for the end
                    raise
                return
            yield from batch

    def _poll(self, limit: int, deadline: Deadline | None) -> list[MessageExt]:
        self._check_running()
        if not self._subscriptions:
            raise ConfigError(f"{self!r} has no queues to poll; call subscribe() or assign() first")
        if self.settings.auto_commit and monotonic() >= self._next_auto_commit:
            self._next_auto_commit = monotonic() + self.settings.auto_commit_interval
            self._note_positions()
        self._gate.pass_through()
        batch = self._queues.take(limit, deadline)
        if batch:
            self._stats.topic(batch[0].topic).consumed += len(batch)
            if self._hooks.on_consume:
                self._hooks.polled(self.group, batch[0].message_queue, batch)
        return batch

    # -- positions -----------------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Store the positions of all its queues; blocks for a call to a broker for each that has moved, at most 5 s each.

        That covers exactly the messages that polls had returned (or loops had got) when it was called, to whichever
        greenlet; call it when all of those are done.  Where it begins in a queue is stored without a commit.
        Queues that a rebalance has taken away since are passed over: their new owner gets what was not committed.

        :raises GRocketMQError: when some queue's position was not stored, which has changed nothing else; another try may help.
        """
        self._check_running()
        with self._committing:
            moved = self._note_positions()
            self._store.flush([assigned.queue for assigned, _ in moved])
            for assigned, position in moved:
                assigned.committed = position

    def committed(self, queue: MessageQueue) -> int | None:
        """The position that the group has stored for a queue, asked anew; blocks at most 8 s.

        :param queue: any queue, its own or not.
        :returns: the offset at which its next owner begins, None when the group has stored none.
        """
        self._check_running()
        return self._store.read(queue)

    def seek(self, queue: MessageQueue, offset: int) -> None:
        """Go on at an offset; blocks for two calls to the queue's broker.

        What was pulled and not handed out is thrown away, pulls under way too.  The offset is the new position: the next
        commit stores it.

        :param queue: one of its queues.
        :param offset: from the queue's first offset to one past its last.
        :raises ConfigError: when the queue is not its own (any more), or has no such offset.
        """
        self._own(queue)
        least, most = self.min_offset(queue), self.max_offset(queue)
        if not least <= offset <= most:
            raise ConfigError(f"offset {offset} is not within {least}..{most}, which {queue} has")
        self._seek(queue, offset)

    def seek_to_begin(self, queue: MessageQueue) -> None:
        """As :meth:`seek`, to the queue's first message."""
        self._own(queue)
        self._seek(queue, self.min_offset(queue))

    def seek_to_end(self, queue: MessageQueue) -> None:
        """As :meth:`seek`, past the queue's last message: only what is sent from now on will come."""
        self._own(queue)
        self._seek(queue, self.max_offset(queue))

    def seek_to_timestamp(self, queue: MessageQueue, timestamp_ms: int) -> None:
        """As :meth:`seek`, to the first message stored at or after a time; past the last one when there is none
        (brokers before 5.0: to the last one).

        :param timestamp_ms: ms since the epoch.
        """
        self._own(queue)
        self._seek(queue, self.search_offset(queue, timestamp_ms))

    def pause(self, queues: Iterable[MessageQueue]) -> None:
        """Neither pull these queues nor hand out what is cached of them, until :meth:`resume`; never blocks.

        They stay its queues.  A queue that is taken away and comes back is not paused any more.

        :param queues: those that are not its own are passed over.
        """
        self._check_running()
        for assigned in filter(None, map(self._queues.get, queues)):
            assigned.paused = True

    def resume(self, queues: Iterable[MessageQueue]) -> None:
        """Undo :meth:`pause`; never blocks.

        :param queues: those that are not paused, or not its own, are passed over.
        """
        self._check_running()
        for assigned in filter(None, map(self._queues.get, queues)):
            self._queues.resume(assigned)

    def _note_positions(self) -> list[tuple[AssignedQueue, int]]:
        """Bring the positions into the store's memory: the queues whose position is not surely stored, and the position.

        They are those of one moment; to note them may take longer when there are many.
        """
        moved = []
        positions = [(assigned, assigned.position) for assigned in self._queues]
        for assigned, position in in_turns(positions):
            if not assigned.held.dropped and position != assigned.committed:
                self._store.update(assigned.queue, position, increase_only=False)
                moved.append((assigned, position))
        return moved

    def _own(self, queue: MessageQueue) -> AssignedQueue:
        self._check_running()
        assigned = self._queues.get(queue)
        if assigned is None:
            raise ConfigError(f"{queue} is not among the queues of {self!r}; a rebalance may have taken it away")
        return assigned

    def _seek(self, queue: MessageQueue, offset: int) -> None:
        self._pulls.move(self._own(queue), offset)
