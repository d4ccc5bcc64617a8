"""Who is connected: producers and consumer groups, from their heartbeats.

Source: Apache RocketMQ 5.3.3, module broker, classes ``ClientManageProcessor``, ``ConsumerManager``, ``ConsumerGroupInfo``,
``ConsumerManageProcessor``, ``ProducerManager``, ``SubscriptionGroupManager``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from grocketmq.codes import LanguageCode, RequestCode, ResponseCode
from grocketmq.embedded.answers import success
from grocketmq.embedded.clock import Clock
from grocketmq.embedded.filters import check_expression
from grocketmq.embedded.table import Table
from grocketmq.embedded.topics import TopicTable
from grocketmq.errors import ConfigError
from grocketmq.model.namespace import retry_topic
from grocketmq.model.subscription import MessageModel, SubscriptionData
from grocketmq.model.validators import check_group
from grocketmq.remoting.server import Channel, Handler, Refused
from grocketmq.wire import bodies, headers
from grocketmq.wire.bodies import ConsumerData, HeartbeatData, SubscriptionGroupConfig
from grocketmq.wire.command import RemotingCommand

__all__ = ["EXPIRY_SCAN_INTERVAL", "ClientTable", "ConsumerGroup", "Member"]

#: Seconds between two looks for clients that are silent for too long.
EXPIRY_SCAN_INTERVAL = 10.0
#: What brokers of 5.x create; older ones took longer names.
_MAX_GROUP_LENGTH = 120


@dataclass(slots=True)
class Member:
    """One client of a group.

    :param client_id: its id.
    :param version: the ``MQVersion`` ordinal it told.
    :param seen: when its last heartbeat came, by the clock's seconds.
    :param language: the name of what it is written in.
    """

    client_id: str
    version: int
    seen: float
    language: str | None = None


@dataclass(slots=True)
class ConsumerGroup:
    """A consumer group with members."""

    name: str
    members: dict[Channel, Member] = field(default_factory=dict)
    subscriptions: dict[str, SubscriptionData] = field(default_factory=dict)
    data: ConsumerData | None = None
    fingerprint: int = 0

    @property
    def broadcasting(self) -> bool:
        """Whether each member gets all messages, so that nobody cares who the others are."""
        return self.data is not None and self.data.message_model is MessageModel.BROADCASTING

    def subscribe(self, subscriptions: tuple[SubscriptionData, ...]) -> bool:
        """Take a member's subscriptions; of two versions of one, the newer stays.

        :returns: whether topics came or went.
        """
        before = self.subscriptions
        after = {}
        for new in subscriptions:
            old = before.get(new.topic)
            after[new.topic] = old if old is not None and old.sub_version >= new.sub_version else new
        self.subscriptions = after
        return before.keys() != after.keys()


class ClientTable:
    """The clients of a broker, and the settings of consumer groups.

    :param topics: the broker's topics; a group's retry topic is made there.
    :param clock: the time.
    :param expiry: seconds without a heartbeat after which a client counts as gone.
    :param property_filter: whether the broker filters by property.
    :param group_configs: the settings, where they are those of another broker too: a slave's are its master's.
    """

    def __init__(
        self,
        topics: TopicTable,
        clock: Clock,
        expiry: float,
        *,
        property_filter: bool = True,
        group_configs: Table[str, SubscriptionGroupConfig] | None = None,
    ) -> None:
        self.producers: dict[str, dict[Channel, Member]] = {}
        #: By client id, where a reply to a producer goes; as at a real broker it gets lost when any group of the client leaves.
        self.client_channels: dict[str, Channel] = {}
        self.consumers: dict[str, ConsumerGroup] = {}
        self.group_configs: Table[str, SubscriptionGroupConfig] = Table() if group_configs is None else group_configs
        self.expiry = expiry
        self.property_filter = property_filter
        self._topics = topics
        self._clock = clock

    def handlers(self) -> dict[int, Handler]:
        """The requests it serves."""
        return {
            RequestCode.HEART_BEAT: self._heartbeat,
            RequestCode.UNREGISTER_CLIENT: self._unregister,
            RequestCode.CHECK_CLIENT_CONFIG: self._check_config,
            RequestCode.GET_CONSUMER_LIST_BY_GROUP: self._consumer_list,
            RequestCode.QUERY_SUBSCRIPTION_BY_CONSUMER: self._subscription,
            RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP: self._update_group,
            RequestCode.GET_SUBSCRIPTIONGROUP_CONFIG: self._get_group,
        }

    def group_config(self, group: str) -> SubscriptionGroupConfig:
        """A consumer group's settings, made at the first question.

        :raises Refused: with code 26, for a name that no group can have.
        """
        config = self.group_configs.get(group)
        if config is None:
            try:
                check_group(group)
                if len(group) > _MAX_GROUP_LENGTH:
                    raise ConfigError(f"longer than {_MAX_GROUP_LENGTH} characters")
            except ConfigError as error:
                remark = f"subscription group [{group[:_MAX_GROUP_LENGTH]}] does not exist: {error}"
                raise Refused(ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST, remark) from error
            config = self.group_configs[group] = SubscriptionGroupConfig(group)
        return config

    def closed(self, channel: Channel) -> None:
        """A connection has ended, so its client has left all groups; never blocks."""
        for members in self.producers.values():
            self._forget(members.pop(channel, None), channel)
        for group in list(self.consumers.values()):
            self._leave(group, channel)

    def expire(self) -> None:
        """End the connections of clients that were silent for too long; never blocks."""
        oldest = self._clock.monotonic() - self.expiry
        tables = [*self.producers.values(), *(group.members for group in self.consumers.values())]
        for channel in {one for members in tables for one, member in members.items() if member.seen < oldest}:
            channel.close()
            self.closed(channel)

    def forget_all(self) -> None:
        """Nobody is connected any more."""
        self.producers.clear()
        self.client_channels.clear()
        self.consumers.clear()

    # -- requests ------------------------------------------------------------------------------------------------------------

    def _heartbeat(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        heartbeat = bodies.HEARTBEAT.decode(request.body)
        language = None if request.language is None else LanguageCode(request.language).name
        member = Member(heartbeat.client_id, request.version, self._clock.monotonic(), language)
        changed = False
        for data in heartbeat.consumers:
            changed |= self._join(data, heartbeat, member, channel)
        for producer in heartbeat.producers:
            members = self.producers.setdefault(producer.group_name, {})
            if channel not in members:
                self.client_channels[member.client_id] = channel
            members[channel] = member
        sub_change = changed if heartbeat.heartbeat_fingerprint else True
        return success(request, headers.HeartbeatResponseHeader(support_heart_beat_v2=True, sub_change=sub_change))

    def _forget(self, member: Member | None, channel: Channel) -> None:
        if member is not None and self.client_channels.get(member.client_id) is channel:
            del self.client_channels[member.client_id]

    def _join(self, data: ConsumerData, heartbeat: HeartbeatData, member: Member, channel: Channel) -> bool:
        """Take a member in, or note that it lives.

        :returns: whether the group's last heartbeat had another fingerprint.
        """
        try:
            config = self.group_config(data.group_name)
        except Refused:
            return False  # as a broker does: such a group's pulls are refused, its other groups' heartbeat is not
        name = data.group_name
        order = any(topic.order for one in data.subscriptions if (topic := self._topics.get(one.topic)) is not None)
        self._topics.create_own(retry_topic(name), config.retry_queue_nums, order=order)
        group = self.consumers.setdefault(name, ConsumerGroup(name))
        differs = group.fingerprint not in (0, heartbeat.heartbeat_fingerprint)
        group.fingerprint = heartbeat.heartbeat_fingerprint
        group.data = data
        changed = channel not in group.members
        group.members[channel] = member
        if not heartbeat.without_sub:
            changed |= group.subscribe(data.subscriptions)
        if changed:
            self._notify(group, config)
        return differs

    def _leave(self, group: ConsumerGroup, channel: Channel) -> None:
        if group.members.pop(channel, None) is None:
            return
        if not group.members:
            self.consumers.pop(group.name, None)
        else:
            self._notify(group, self.group_config(group.name))

    def _notify(self, group: ConsumerGroup, config: SubscriptionGroupConfig) -> None:
        """Tell all members that the group changed; the new one too, as brokers do."""
        if group.broadcasting or not config.notify_consumer_ids_changed_enable:
            return
        header = headers.NotifyConsumerIdsChangedRequestHeader(consumer_group=group.name)
        for channel in group.members:
            channel.send_request(RemotingCommand(header.CODE, ext_fields=header.to_ext()))

    def _unregister(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        header = headers.UnregisterClientRequestHeader.parse(request.ext_fields)
        if header.producer_group is not None:
            self._forget(self.producers.get(header.producer_group, {}).pop(channel, None), channel)
        if header.consumer_group is not None:
            group = self.consumers.get(header.consumer_group)
            if group is not None:
                self._leave(group, channel)
        return success(request)

    def _check_config(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        check_expression(bodies.CHECK_CLIENT.decode(request.body).subscription_data, self.property_filter)
        return success(request)

    def _consumer_list(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        name = headers.GetConsumerListByGroupRequestHeader.parse(request.ext_fields).consumer_group
        group = self.consumers.get(name)
        if group is None:
            raise Refused(ResponseCode.SYSTEM_ERROR, f"no consumer for this group, {name}")
        ids = tuple(member.client_id for member in group.members.values())
        return success(request, body=bodies.CONSUMER_LIST.encode(ids))

    def _subscription(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        header = headers.QuerySubscriptionByConsumerRequestHeader.parse(request.ext_fields)
        group = self.consumers.get(header.group or "")
        found = None if group is None else group.subscriptions.get(header.topic or "")
        return success(request, body=bodies.GROUP_SUBSCRIPTION.encode(found))

    def _update_group(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        config = bodies.GROUP_CONFIG.decode(request.body)
        self.group_config(config.group_name)  # refuses what is no name
        self.group_configs[config.group_name] = config
        return success(request)

    def _get_group(self, request: RemotingCommand, channel: Channel) -> RemotingCommand:
        group = headers.GetSubscriptionGroupConfigRequestHeader.parse(request.ext_fields).group
        if group not in self.group_configs:
            raise Refused(ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST, f"No group in this broker. group: {group}")
        return success(request, body=bodies.GROUP_CONFIG.encode(self.group_configs[group]))
