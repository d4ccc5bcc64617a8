"""Which instance serves which client, in this process."""

from __future__ import annotations

from typing import Any, ClassVar

from grocketmq.client.config import ClientConfig
from grocketmq.client.instance import ClientInstance
from grocketmq.client.members import Member
from grocketmq.errors import ConfigError
from grocketmq.runtime.forks import drop_in_child
from grocketmq.runtime.lifecycle import Lifecycle, ServiceState
from grocketmq.runtime.threads import get_ident

__all__ = ["MQClientManager", "default_manager"]


class MQClientManager(Lifecycle):
    """Looks after clients: starts and stops them together, and gives those with equal settings one instance.

    Every client has a manager, one of the process if no other; making one of your own is for starting and stopping several
    clients as one::

        manager = MQClientManager(namesrv="127.0.0.1:9876")
        manager.register_producer(producer)
        manager.register_consumer(consumer)
        manager.start()
        ...
        manager.shutdown()

    :param common: the settings of :class:`~grocketmq.client.config.ClientConfig`; clients must use the same name servers.
    """

    _RUN_ANYWHERE: ClassVar[frozenset[str]] = Lifecycle._RUN_ANYWHERE | {"instance", "release"}

    def __init__(self, **common: Any) -> None:
        super().__init__()
        self.config = ClientConfig(**common) if common else None
        #: Each belongs to a thread.
        self._instances: dict[tuple[ClientConfig, int], ClientInstance] = {}
        self._producers: list[Member] = []
        self._consumers: list[Member] = []
        drop_in_child(self)

    def __repr__(self) -> str:
        return f"<MQClientManager {len(self._producers)} producers, {len(self._consumers)} consumers, {self.state.value}>"

    def register_producer(self, producer: Member) -> None:
        """Look after a producer; started at once if the manager runs, else with :meth:`start`.

        :param producer: not started yet.
        :raises ConfigError: when it uses other name servers.
        :raises ClientStateError: when it was started already.
        """
        self._register(self._producers, producer)

    def register_consumer(self, consumer: Member) -> None:
        """As :meth:`register_producer`, for a consumer of any kind."""
        self._register(self._consumers, consumer)

    def _register(self, members: list[Member], member: Member) -> None:
        if self.config is not None and self.config.namesrv != member.config.namesrv:
            raise ConfigError(f"{member!r} uses name servers {member.config.namesrv}, its manager {self.config.namesrv}")
        member.bind(self)
        members.append(member)
        if self.state is ServiceState.RUNNING:
            member.start()

    def _start(self) -> None:
        for member in [*self._producers, *self._consumers]:
            member.start()

    def _abort_start(self) -> None:
        """When one fails, those before it are stopped too; all may be started again."""
        for member in [*reversed(self._consumers), *reversed(self._producers)]:
            member.undo_start()

    def _shutdown(self, timeout: float) -> None:
        """Consumers first: what their listeners still send must find its producer running."""
        for member in [*reversed(self._consumers), *reversed(self._producers)]:
            member.shutdown(timeout)

    @property
    def restarts_after_fork(self) -> bool:
        """It does; whether each of its clients may is that client's setting."""
        return True

    def abandon(self) -> None:
        """In a forked child: the instances are the parent's."""
        super().abandon()
        self._instances.clear()

    def instance(self, config: ClientConfig) -> ClientInstance:
        """The instance for these settings, made if there is none; its user calls :meth:`release` once."""
        key = (config, get_ident())
        found = self._instances.get(key)
        spare: ClientInstance | None = None
        if found is None:
            made = ClientInstance(config)
            found = self._instances.setdefault(key, made)
            if found is not made:  # another client made one while this one looked for its address
                spare = made
        found.users += 1
        if spare is not None:
            try:
                spare.shutdown()
            except BaseException:  # who asked never learns what he uses
                self.release(found)
                raise
        return found

    def release(self, instance: ClientInstance) -> None:
        """Give an instance back; the last user ends it, which blocks about a second at most."""
        instance.users -= 1
        if not instance.users:
            key = (instance.config, get_ident())
            if self._instances.get(key) is instance:
                del self._instances[key]
            instance.shutdown()


_default: MQClientManager | None = None


def default_manager() -> MQClientManager:
    """The process's own manager."""
    global _default
    if _default is None:
        _default = MQClientManager()
    return _default
