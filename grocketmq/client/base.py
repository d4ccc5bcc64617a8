"""What every client is: a member of a manager, with a share in an instance, able to ask simple questions."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, ClassVar

from gevent.monkey import saved

from grocketmq.client.config import ClientConfig
from grocketmq.client.instance import ClientInstance
from grocketmq.client.leaving import note_started
from grocketmq.client.manager import MQClientManager, default_manager
from grocketmq.client.queries import END_OF_TIME, query_message, view_message
from grocketmq.errors import ClientStateError, RouteNotFoundError
from grocketmq.model.message import MessageExt
from grocketmq.model.route import MessageQueue, TopicRouteData
from grocketmq.model.validators import check_client_group
from grocketmq.runtime.deadline import Deadline
from grocketmq.runtime.lifecycle import Lifecycle, ServiceState
from grocketmq.runtime.tasks import TaskGroup

__all__ = ["BaseClient"]


class BaseClient(Lifecycle):
    """Common part of producers and consumers.

    :param group: the group's name.
    :param config: the common settings.
    :raises ConfigError: for a group name that brokers refuse.
    """

    #: Whether it is started anew in a forked child unless ``restart_after_fork`` says otherwise.
    _RESTARTS: ClassVar[bool] = False
    #: Whether it works without being called, so that it must be started anew without being called, too.
    _WORKS_UNASKED: ClassVar[bool] = False

    #: See :attr:`stops_last`.
    _STOPS_LAST: ClassVar[bool] = False

    def __init__(self, group: str, config: ClientConfig) -> None:
        super().__init__()
        check_client_group(group)
        self._group = group
        self._config = config
        self._made_in = os.getpid()
        self._manager: MQClientManager | None = None
        self._renew()

    def _renew(self) -> None:
        self._shared: ClientInstance | None = None
        self._joined = False

    @property
    def group(self) -> str:
        """The group's name."""
        return self._group

    @property
    def config(self) -> ClientConfig:
        """The common settings."""
        return self._config

    @property
    def client_id(self) -> str | None:
        """The name under which brokers know the instance it belongs to; None before ``start()``."""
        return None if self._shared is None else self._shared.client_id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._group!r}, {self.state.value}>"

    @property
    def restarts_after_fork(self) -> bool:
        """Whether it is started anew in a forked child of the process that started it."""
        wanted = self._config.restart_after_fork
        return self._RESTARTS if wanted is None else wanted

    @property
    def stops_last(self) -> bool:
        """Whether others may need it until they have stopped: producers."""
        return self._STOPS_LAST

    def abandon(self) -> None:
        """In a forked child: what was started is the parent's."""
        super().abandon()
        if self._WORKS_UNASKED and self._state is ServiceState.FORKED and self.restarts_after_fork:
            # It runs when this child's event loop does: not in a child that only executes another program.
            TaskGroup(repr(self)).loop("restart after a fork", self._restart)

    def _restart(self) -> None:
        if self.state is ServiceState.FORKED:  # and not shut down meanwhile
            self.start()

    def debug_dump(self) -> dict[str, Any]:
        """Its inner state, for a log or a bug report; never blocks.  What it holds may change with every release.

        :returns: what ``json.dumps`` takes: the process (id, patched modules, lateness of its event loop in seconds), the
            shared instance (greenlets by role, failures of its loops, connections with calls in flight), and the client's own
            greenlets, failures and queues.
        """
        instance = self._shared
        told: dict[str, Any] = {
            "client": repr(self),
            "client_id": self.client_id,
            "process": {"pid": os.getpid(), "patched": sorted(saved)},
        }
        if instance is not None:
            told["process"]["hub_lag"] = {"last": instance.lag.last, "worst": instance.lag.worst}
            told["instance"] = {
                **instance.tasks.report(),
                "connections": instance.remoting.report(),
                "members": instance.members(),
            }
        return {**told, **self._debug()}

    def _debug(self) -> dict[str, Any]:
        """What a subclass adds to :meth:`debug_dump`."""
        tasks: TaskGroup | None = getattr(self, "_tasks", None)
        return {} if tasks is None else tasks.report()

    # -- for subclasses ------------------------------------------------------------------------------------------------------

    def bind(self, manager: MQClientManager) -> None:
        """Belong to this manager instead of the process's own; never blocks.  The manager calls it.

        :param manager: where its instance will come from.
        :raises ClientStateError: when it was started already.
        """
        if self.state is not ServiceState.CREATED:
            raise ClientStateError(f"{self!r} must be registered with a manager before it is started")
        self._manager = manager

    def _join_instance(self) -> ClientInstance:
        self._manager = self._manager or default_manager()
        if self._config.client_id is not None and self._made_in != os.getpid():
            # Equal ids in one group would take each other's queues.
            self._config = replace(self._config, client_id=f"{self._config.client_id}#{os.getpid()}")
            self._made_in = os.getpid()
        self._shared = self._manager.instance(self._config)
        self._joined = True
        note_started(self)
        return self._shared

    def _leave_instance(self) -> None:
        if self._joined and self._manager is not None and self._shared is not None:
            self._joined = False
            self._manager.release(self._shared)

    @property
    def _instance(self) -> ClientInstance:
        if self._shared is None:
            raise ClientStateError(f"{self!r} must be started first")
        return self._shared

    def _new_tasks(self) -> TaskGroup:
        return TaskGroup(f"{type(self).__name__} {self._group}")

    def _master(self, queue: MessageQueue) -> str:
        self._check_running()
        return self._instance.master_address(queue, Deadline(self._config.request_timeout))

    # -- queries -------------------------------------------------------------------------------------------------------------

    def topic_list(self) -> list[str]:
        """The names of all topics the name server knows; blocks at most ``request_timeout``.

        :raises RemotingError: when no name server answers.
        """
        self._check_running()
        return self._instance.api.topic_list(self._config.request_timeout)

    def topic_route(self, topic: str) -> TopicRouteData:
        """A topic's route, asked anew; blocks at most ``request_timeout``.

        :param topic: the topic's name.
        :raises RouteNotFoundError: when no name server knows it.
        """
        self._check_running()
        return self._instance.api.topic_route(topic, self._config.request_timeout)

    def consumer_ids(self, group: str, topic: str) -> list[str]:
        """The client ids of a consumer group, from a broker of a topic it consumes; blocks at most ``request_timeout``
        a broker.

        :param group: the consumer group.
        :param topic: a topic it is subscribed to.
        :raises BrokerError: when the broker knows no member of the group.
        :raises RouteNotFoundError: when the topic has no broker.
        """
        self._check_running()
        instance = self._instance
        instance.subscribe_queues(topic)
        addresses = instance.routes.brokers_of(topic)
        if not addresses:
            raise RouteNotFoundError(topic, "it has no broker at present")
        return instance.api.consumer_ids(addresses[0], group, self._config.request_timeout)

    def max_offset(self, queue: MessageQueue) -> int:
        """One past the queue's last offset; blocks at most 6 s.

        :param queue: the queue; 0 is the answer for one that does not exist.
        """
        return self._instance.api.max_offset(self._master(queue), queue)

    def min_offset(self, queue: MessageQueue) -> int:
        """The queue's first offset; blocks at most 6 s.

        :param queue: the queue.
        """
        return self._instance.api.min_offset(self._master(queue), queue)

    def search_offset(self, queue: MessageQueue, timestamp_ms: int) -> int:
        """The first offset stored at or after a time; blocks at most 6 s.

        :param queue: the queue.
        :param timestamp_ms: ms since the epoch; a time ahead gives the maximum offset, brokers before 5.0 one less.
        """
        return self._instance.api.search_offset(self._master(queue), queue, timestamp_ms)

    def earliest_store_time(self, queue: MessageQueue) -> int:
        """When the queue's first message was stored, in ms since the epoch; blocks at most 6 s.

        :param queue: the queue; -1 is the answer for an empty one.
        """
        return self._instance.api.earliest_store_time(self._master(queue), queue)

    def view_message(self, msg_id: str, topic: str | None = None) -> MessageExt:
        """The message with an id; blocks at most ``request_timeout``, and 18 s for the search by unique id.

        :param msg_id: :attr:`SendResult.offset_msg_id`, or with ``topic`` the unique id, :attr:`SendResult.msg_id`.
        :param topic: the message's topic; None for an offset id, whose broker it names.
        :returns: the message; of one that was stored more than once, by retries, the first.
        :raises QueryNotFoundError: when no broker of the topic finds the unique id.  The brokers' index follows the messages a
            moment later, and forgets them with their files.
        :raises BrokerError: when no message starts where the offset id says.
        :raises MessageError: when the id is no offset id and there is no topic.
        :raises RouteNotFoundError: when no name server knows the topic.
        """
        self._check_running()
        return view_message(self._instance, msg_id, topic, self._config.request_timeout)

    def query_message(
        self, topic: str, key: str, max_num: int = 32, begin_ms: int = 0, end_ms: int = END_OF_TIME
    ) -> list[MessageExt]:
        """The messages of a topic that have a key; blocks at most ``request_timeout`` and 18 s.

        :param topic: the topic's name.
        :param key: one of the messages' ``keys``, or a unique id.
        :param max_num: the most messages to return, and to ask each broker for; brokers have bounds of their own.
        :param begin_ms: stored since then, ms since the epoch.
        :param end_ms: stored until then.
        :returns: what was found, oldest first; empty for nothing.  What was stored just now may not be in the index yet, and a
            broker that did not answer is missed only when the others found nothing.
        :raises MessageError: for an empty key.
        :raises RouteNotFoundError: when no name server knows the topic.
        :raises GRocketMQError: when nothing was found and a broker did not answer.
        """
        self._check_running()
        return query_message(self._instance, topic, key, max_num, begin_ms, end_ms, self._config.request_timeout)
