"""Sharing out queues at the broker, for groups that leave it to the broker; and whether a group pulls or pops.

Source: Apache RocketMQ 5.5.0, module broker, classes ``QueryAssignmentProcessor``, ``MessageRequestModeManager``; module
common, package ``consumer.allocate``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded.answers import success
from grocketmq.embedded.clients import ClientTable
from grocketmq.embedded.table import Table
from grocketmq.embedded.topics import TopicTable
from grocketmq.hashing import utf16_order
from grocketmq.model.namespace import is_retry_topic
from grocketmq.model.route import MessageQueue, TopicRouteData, subscribe_queues
from grocketmq.model.subscription import MessageModel
from grocketmq.remoting.server import Channel, Handler, Refused
from grocketmq.wire import bodies
from grocketmq.wire.bodies import (
    MessageQueueAssignment,
    MessageRequestMode,
    QueryAssignmentRequestBody,
    SetMessageRequestModeRequestBody,
)
from grocketmq.wire.command import RemotingCommand

__all__ = ["Assignments"]

#: Any queue of a broker.
_ANY_QUEUE = -1

_Queues = list[MessageQueue]


def _averagely(queues: Sequence[MessageQueue], members: int, index: int) -> _Queues:
    """Neighbouring queues for each member, the first members one more."""
    share, more = divmod(len(queues), members)
    first = index * share + min(index, more)
    return list(queues[first : first + share + (index < more)])


def _by_circle(queues: Sequence[MessageQueue], members: int, index: int) -> _Queues:
    """Queue by queue in turn."""
    return list(queues[index::members])


_STRATEGIES = {"AVG": _averagely, "AVG_BY_CIRCLE": _by_circle}


class Assignments:
    """Shares out queues.

    :param topics: the broker's topics.
    :param clients: its groups.
    :param route: a topic's route over all brokers, None for a topic nobody has.
    """

    def __init__(self, topics: TopicTable, clients: ClientTable, route: Callable[[str], TopicRouteData | None]) -> None:
        #: (topic, group) -> how the group fetches it.
        self.modes: Table[tuple[str, str], SetMessageRequestModeRequestBody] = Table()
        self._topics = topics
        self._clients = clients
        self._route = route

    def handlers(self) -> dict[int, Handler]:
        """The requests it serves."""
        return {
            RequestCode.QUERY_ASSIGNMENT: self._query,
            RequestCode.SET_MESSAGE_REQUEST_MODE: self._set_mode,
        }

    def _set_mode(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        wanted = bodies.REQUEST_MODE.decode(request.body)
        if is_retry_topic(wanted.topic):
            raise Refused(ResponseCode.NO_PERMISSION, "retry topic is not allowed to set mode")
        if self._topics.get(wanted.topic) is None:
            raise Refused(ResponseCode.TOPIC_NOT_EXIST, f"topic[{wanted.topic}] not exist")
        self._clients.group_config(wanted.consumer_group)
        self.modes[wanted.topic, wanted.consumer_group] = wanted
        return success(request)

    def _query(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        asked = bodies.QUERY_ASSIGNMENT.decode(request.body)
        mode = self.modes.get((asked.topic, asked.consumer_group))
        queues = self._share(asked, mode)
        if queues is None:
            return success(request, body=bodies.ASSIGNMENTS.encode(None))
        kind = MessageRequestMode.PULL if mode is None else mode.mode
        assigned = tuple(MessageQueueAssignment(queue, kind) for queue in dict.fromkeys(queues))
        return success(request, body=bodies.ASSIGNMENTS.encode(assigned))

    def _share(self, asked: QueryAssignmentRequestBody, mode: SetMessageRequestModeRequestBody | None) -> _Queues | None:
        """The asker's queues; None when that cannot be told, which changes nothing for it."""
        route = self._route(asked.topic)
        if route is None:
            return None
        queues = sorted(subscribe_queues(asked.topic, route))
        if asked.message_model is MessageModel.BROADCASTING:
            return queues
        group = self._clients.consumers.get(asked.consumer_group)
        strategy = _STRATEGIES.get(asked.strategy_name)
        if group is None or strategy is None:
            return None
        members = sorted({member.client_id for member in group.members.values()}, key=utf16_order)
        index = members.index(asked.client_id) if asked.client_id in members else None
        if mode is None or mode.mode is not MessageRequestMode.POP:
            return [] if index is None else strategy(queues, len(members), index)
        shared_by = mode.pop_share_queue_num
        if shared_by <= 0 or shared_by >= len(members) - 1:
            return [MessageQueue(queue.topic, queue.broker_name, _ANY_QUEUE) for queue in queues]
        if index is None:
            return []
        if len(members) > len(queues):
            return [queues[index % len(queues)]]
        mine: _Queues = []
        for neighbour in range(shared_by + 1):
            mine += strategy(queues, len(members), (index + neighbour) % len(members))
        return mine
