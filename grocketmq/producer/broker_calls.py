"""What a producer asks of brokers besides sending."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic

import gevent

from grocketmq.client.config import ClientConfig
from grocketmq.client.instance import ClientInstance
from grocketmq.codes import TIMER_VERSION
from grocketmq.errors import (
    BrokerError,
    ConfigError,
    ForkError,
    GRocketMQError,
    MessageError,
    RemotingError,
    RouteNotFoundError,
)
from grocketmq.hooks import SendTryContext
from grocketmq.model.namespace import DEFAULT_TOPIC
from grocketmq.model.recall_handle import decode_recall_handle
from grocketmq.model.route import MessageQueue, Permission, TopicPublishInfo
from grocketmq.model.validators import check_not_system_topic, check_topic
from grocketmq.model.version import version_name
from grocketmq.producer.config import ProducerConfig
from grocketmq.producer.faults import DETECT_TIMEOUT, FaultTable
from grocketmq.producer.sends import Sends
from grocketmq.runtime.deadline import Backoff, Deadline
from grocketmq.runtime.lifecycle import ServiceState
from grocketmq.runtime.turns import in_turns
from grocketmq.trace import TracedClient

__all__ = ["BrokerCalls"]

#: Seconds; a topic not sent to for so long, or at most twice, is forgotten with its route.  Long enough for the checks of a
#: transaction, which come over the connections that routes keep open.
KEEP_TOPICS = 3600.0
#: Reading a member of an enumeration costs five times a global.
_RUNNING = ServiceState.RUNNING
#: What ends a try before the broker is asked: it cannot take a timer message, or the call is the parent process's.
_NOTHING_TRIED = (MessageError, ForkError)


class BrokerCalls(TracedClient):
    """Part of :class:`~grocketmq.producer.producer.Producer`: its topics and calls about them, its sends and their tries."""

    def __init__(self, group: str, config: ClientConfig, settings: ProducerConfig) -> None:
        self.settings = settings
        super().__init__(group, config)
        self._topics: set[str] = set()
        self._earlier_topics: set[str] = set()
        #: Topics whose routes it needs as long as it lives.
        self._lasting_topics: set[str] = set()
        self._next_turn = monotonic() + KEEP_TOPICS

    def _renew(self) -> None:
        super()._renew()
        self._sends = Sends()
        tolerant = self.settings.latency_fault_tolerance
        self._faults = FaultTable(detecting=self.settings.fault_detector) if tolerant else None
        #: What is to be told to the hooks of async sends that were killed before they ran.
        self._untold: list[Callable[[], None]] = []

    def _tell_untold(self) -> None:
        """Blocks as long as the hooks do."""
        for _ in in_turns(range(len(self._untold))):
            self._untold.pop()()

    def _enter(self) -> Sends:
        """Count a call in; shutdown waits for those under way.

        :returns: what its other steps are to be given.
        """
        self._check_running()
        sends = self._sends
        sends.under_way += 1
        return sends

    def _leave(self, sends: Sends) -> None:
        sends.under_way -= 1
        if not sends.under_way and self._state is not _RUNNING:
            sends.none.set()

    def _instance_for(self, sends: Sends) -> ClientInstance:
        """The instance, for the next step of a call.

        :raises ForkError: when the producer was started anew since the call began: its message is the parent's to send.
        """
        instance = self._shared
        if sends is not self._sends or instance is None:
            raise ForkError("this call began before the fork, and goes on in the parent process only")
        return instance

    def topics(self) -> Iterable[str]:
        """The topics whose routes its instance keeps fresh, such as those it has sent to within the last hour or two."""
        if monotonic() >= self._next_turn:
            self._next_turn = monotonic() + KEEP_TOPICS
            self._earlier_topics, self._topics = self._topics, set()
        return self._earlier_topics | self._topics | self._lasting_topics

    def create_topic(
        self,
        topic: str,
        queues: int = 8,
        *,
        key: str = DEFAULT_TOPIC,
        perm: int = Permission.READ | Permission.WRITE,
        sys_flag: int = 0,
    ) -> None:
        """Create a topic at every broker that has the ``key`` topic, or change it; blocks at most 5 s a broker.

        Name servers learn of it with the brokers' next registration, at once with a 5.x broker.

        :param topic: the new topic's name.
        :param queues: queues at each broker, for reading and for writing.
        :param key: an existing topic whose brokers get the new one.
        :param perm: bits of :class:`~grocketmq.model.route.Permission`.
        :param sys_flag: the topic's own bits.
        :raises ConfigError: for a name that brokers refuse, and for no queues.
        :raises BrokerError: the first refusal, after every broker was asked.
        """
        self._check_running()
        check_topic(topic)
        if queues < 1:
            raise ConfigError(f"topic {topic} needs one queue at least, not {queues}")
        check_not_system_topic(topic)
        instance = self._instance
        route = instance.api.topic_route(key, self.config.request_timeout)
        masters = [data.master for data in route.broker_datas if data.master]
        if not masters:
            raise RouteNotFoundError(key, "none of its brokers has a master to create a topic at")
        failure: GRocketMQError | None = None
        for address in masters:
            try:
                instance.api.create_topic(address, topic, queues, key, perm, sys_flag)
            except GRocketMQError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def fetch_publish_queues(self, topic: str) -> list[MessageQueue]:
        """The queues that can be sent to, in the route's order; blocks at most ``request_timeout``.

        :param topic: an existing topic.
        :raises RouteNotFoundError: when no name server knows it.
        """
        self._check_running()
        self._topics.add(topic)
        self._instance.refresh_route(topic, self.config.request_timeout)
        return list(self._instance.routes.publish[topic].queues)

    def recall(self, topic: str, recall_handle: str) -> str:
        """Take back a timer message (``delay``, ``deliver_at``) before it is delivered; blocks at most ``request_timeout``.

        Brokers of release 5.3.2 or later do that where ``recallMessageEnable`` is on (it is off by default).  A broker that
        has begun to deliver the message delivers it all the same.

        :param topic: the message's topic.
        :param recall_handle: as the send's result gave it.
        :returns: the message's id.
        :raises MessageError: for a handle that is none, or one of another topic.
        :raises NoPermissionError: where brokers are not set to recall.
        :raises BrokerError: when it was due already.
        :raises RouteNotFoundError: when its broker is gone.
        """
        self._check_running()
        handle = decode_recall_handle(recall_handle)
        if handle.topic != topic:
            raise MessageError(f"the recall handle is of topic {handle.topic}, not of {topic}")
        deadline = Deadline(self.config.request_timeout)
        instance = self._instance
        address = instance.master_address(MessageQueue(topic, handle.broker_name, 0), deadline)
        seconds = deadline.check(f"recall a message from {handle.broker_name}")
        return instance.api.recall(address, self.group, topic, recall_handle, handle.broker_name, seconds)

    def _note_try(self, queue: MessageQueue, seconds: float, error: GRocketMQError | None = None) -> None:
        """A try of a send has ended; blocks as long as the hooks do."""
        if isinstance(error, _NOTHING_TRIED):
            return
        if self._faults is not None:
            self._faults.note(queue.broker_name, seconds, error)
        if self._hooks.after_try:
            self._hooks.tried(SendTryContext(self.group, queue, seconds, error))

    def _may_retry(self, error: GRocketMQError, only_unanswered: bool) -> bool:
        if error.refresh_route:
            self._instance.refresh_routes_soon()
        if only_unanswered:
            return isinstance(error, RemotingError) and error.retriable
        codes = self.settings.retry_response_codes
        if codes is not None and isinstance(error, BrokerError):
            return error.code in codes
        return error.retriable or isinstance(error, RouteNotFoundError)

    def _probe_brokers(self, faults: FaultTable) -> None:
        """Whether brokers that gave no answer do so again; a question that any broker answers tells."""
        instance = self._instance
        topic = next(iter(self.topics()), DEFAULT_TOPIC)

        def answers(address: str) -> bool:
            try:
                instance.api.max_offset(address, MessageQueue(topic, "", 0), DETECT_TIMEOUT)
                return True
            except GRocketMQError as error:
                return isinstance(error, BrokerError)

        faults.detect(instance.routes.master, answers)

    def _check_timers(self, queue: MessageQueue, deadline: Deadline) -> None:
        """Refuse a broker that would deliver a timer message at once."""
        version = self._instance.broker_version(queue, deadline)
        if version < TIMER_VERSION:
            release = version_name(version)[1:].replace("_", ".")
            raise MessageError(
                f"broker {queue.broker_name} is of release {release}, which ignores delay and deliver_at and would deliver the "
                "message at once; use delay_level, or brokers of release 5.0 or later"
            )

    def _find_queues(self, topic: str, default_queues: int, deadline: Deadline) -> TopicPublishInfo:
        backoff: Backoff | None = None
        while True:
            try:
                return self._instance.publish_info(topic, default_queues, deadline)
            except RemotingError:  # no name server answers: there may be one again before the time is up
                backoff = backoff or Backoff(first=0.05, cap=0.5)
                pause = backoff.next()
                if pause >= deadline.remaining():
                    raise
                gevent.sleep(pause)
