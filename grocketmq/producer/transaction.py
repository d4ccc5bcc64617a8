"""``TransactionProducer``: a message that is delivered if, and only if, a local transaction is committed.

::

    producer                              broker
       |-- half message ------------------> |  kept from consumers
       |-- execute()                        |
       |-- end: commit, rollback, unknown > |  delivered, dropped, or left alone
       |                                    |
       |<- how did it end? (again, again) - |  the producer, or another of its group: the end got lost, or was unknown
       |-- check()                          |
       |-- end ---------------------------> |

Source: Apache RocketMQ 5.3.3, module client, classes ``TransactionMQProducer``, ``DefaultMQProducerImpl``.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from typing import Any

import gevent

from grocketmq.errors import ConfigError, GRocketMQError, MessageError
from grocketmq.model.message import DELAY_PROPERTIES, Message, MessageExt
from grocketmq.model.message_id import decode_offset_msg_id
from grocketmq.model.namespace import TRANS_HALF_TOPIC
from grocketmq.model.properties import Property
from grocketmq.model.results import LocalTransactionState, SendResult, SendStatus, TransactionSendResult
from grocketmq.model.route import MessageQueue
from grocketmq.producer.checks import CheckPool
from grocketmq.producer.outgoing import Outgoing
from grocketmq.producer.producer import Producer
from grocketmq.producer.sends import Sends
from grocketmq.runtime.deadline import Deadline
from grocketmq.wire.flags import MessageSysFlag
from grocketmq.wire.headers import CheckTransactionStateRequestHeader, EndTransactionRequestHeader

__all__ = ["TransactionProducer"]

log = logging.getLogger(__name__)

_END = {
    LocalTransactionState.UNKNOWN: 0,
    LocalTransactionState.COMMIT: MessageSysFlag.TRANSACTION_COMMIT,
    LocalTransactionState.ROLLBACK: MessageSysFlag.TRANSACTION_ROLLBACK,
}
_MAX_POOL_SIZE = 10_000
#: Ended transactions that are remembered.  A broker that asks for one does so within seconds after its end.
_MAX_ENDED = 10_000
#: What is told of an exception, for the broker's log.
_REMARK_CHARACTERS = 200
#: More than brokers keep messages.
_MAX_IMMUNITY = 365 * 24 * 3600.0

_Outcome = tuple[LocalTransactionState, Exception | None]


class TransactionProducer(Producer):
    """A producer whose messages depend on local transactions.

    ::

        def execute(msg, order):                     # in the greenlet that sends
            database.book(order, msg.transaction_id)
            return LocalTransactionState.COMMIT

        def check(msg):                              # asked by a broker that heard of no end
            booked = database.knows(msg.transaction_id)
            return LocalTransactionState.COMMIT if booked else LocalTransactionState.ROLLBACK

        with TransactionProducer("orders", execute=execute, check=check, namesrv="127.0.0.1:9876") as producer:
            producer.send_in_transaction(Message("orders-booked", b"..."), order)

    A broker asks any member of the group, so every member must be able to ``check`` every transaction of the group, and groups
    with different transactions need different names.  Plain sends of this producer are as those of any other.

    :param group: the producer group's name; in one process and instance it has one transactional producer.
    :param execute: ``callable(msg, arg) -> LocalTransactionState``: the local transaction.  Runs in the greenlet that sends and
        may block.  An exception leaves the state UNKNOWN, since the transaction may have happened: ``check`` decides.
    :param check: ``callable(msg_ext) -> LocalTransactionState``: how the transaction of this half message ended.  Runs in a
        greenlet of its own and may block.  An exception, or a ``gevent.Timeout``, is UNKNOWN; the broker asks
        again later (15 times unless it is configured otherwise, then it puts the message aside).
    :param check_pool_size: calls of ``check`` at the same time; 2000 more wait, those beyond are dropped and asked again.
    :param options: as those of :class:`~grocketmq.producer.producer.Producer`.
    :raises ConfigError: as :class:`~grocketmq.producer.producer.Producer`, or for functions or a pool size that cannot work.
    """

    def __init__(
        self,
        group: str,
        *,
        execute: Callable[[Message, Any], LocalTransactionState],
        check: Callable[[MessageExt], LocalTransactionState],
        check_pool_size: int = 16,
        **options: Any,
    ) -> None:
        for name, function in (("execute", execute), ("check", check)):
            if not callable(function):
                raise ConfigError(f"{name} is {function!r:.80}, which cannot be called")
        if check_pool_size not in range(1, _MAX_POOL_SIZE + 1):
            raise ConfigError(f"check_pool_size is {check_pool_size!r}; it must be a whole number within 1..{_MAX_POOL_SIZE}")
        self._execute = execute
        self._check = check
        self._check_pool_size = check_pool_size
        super().__init__(group, **options)
        # Every broker has this topic.  So all of them hear from this member, and can ask it for what others have begun.
        self._lasting_topics.add(TRANS_HALF_TOPIC)

    def _renew(self) -> None:
        super()._renew()
        self._checks = CheckPool(self._tasks, self._check_pool_size)
        #: The ends still to be told of the local transactions under way, by transaction id.
        self._executing: dict[str, EndTransactionRequestHeader] = {}
        #: Ids of the last transactions whose end a broker has confirmed.
        self._ended: OrderedDict[str, None] = OrderedDict()

    def _start(self) -> None:
        super()._start()
        self._instance.set_transaction_checker(self.group, self._asked)
        self._instance.refresh_routes_soon()

    def _shutdown(self, timeout: float) -> None:
        if self._joined:
            self._instance.drop_transaction_checker(self.group, self._asked)
        super()._shutdown(timeout)

    # -- sending -------------------------------------------------------------------------------------------------------------

    def send_in_transaction(
        self, msg: Message, arg: object = None, *, immunity_time: float | None = None
    ) -> TransactionSendResult:
        """Send a half message, run the local transaction, and tell the broker how it ended.

        Blocks at most ``send_timeout`` for the half message, as long as ``execute`` takes, and at most ``send_timeout`` until
        the broker has confirmed a commit or a rollback.  Should that get lost, or fail, the result is the same and the broker
        asks.  When a broker stored the half message but not in full (a status other than ``SEND_OK``), it is rolled back and
        ``execute`` is not called.

        A local transaction that is killed, or ended by a ``gevent.Timeout``, has no end told; ``check`` decides.  A message is
        delivered twice only when a commit was carried out but not confirmed, and ``check`` committed it again.

        :param msg: the message.  It cannot be delayed; a delay is taken off.  Its ``transaction_id`` is known to ``execute``.
        :param arg: handed to ``execute``.
        :param immunity_time: seconds before the broker asks first, rounded up to whole ones; None for what the broker is
            configured for.  A commit or a rollback that comes later than that is refused by the broker, which asks then.
        :returns: the half message's result, with the state and the exception of the local transaction.
        :raises MessageError: no broker would take it; nothing was sent.
        :raises SendError: as :meth:`send`, and the others too; ``execute`` was not called.
        """
        sends = self._enter()
        try:
            half = self._send_half(sends, msg, immunity_time)
            end = EndTransactionRequestHeader(
                topic=msg.topic,
                producer_group=self.group,
                tran_state_table_offset=half.queue_offset,
                commit_log_offset=decode_offset_msg_id(half.offset_msg_id).commit_log_offset,
                commit_or_rollback=_END[LocalTransactionState.UNKNOWN],
                msg_id=half.msg_id,
                transaction_id=half.transaction_id,
                bname=half.message_queue.broker_name,
            )
            state, exception = self._run(msg, arg, half, end)
            self._instance_for(sends)  # or a copy of the call ends here
            self._end(end, state, exception, half.message_queue, msg)
            return _result(half, state, exception)
        finally:
            self._leave(sends)

    def _send_half(self, sends: Sends, msg: Message, immunity_time: float | None) -> SendResult:
        deadline = Deadline(self.settings.send_timeout)
        return self._hooked(
            [msg],
            lambda: self._deliver(sends, self._half(msg, immunity_time), None, None, None, deadline),
            transactional=True,
        )

    def _half(self, msg: Message, immunity_time: float | None) -> Outgoing:
        properties = {Property.TRANSACTION_PREPARED: "true", Property.PRODUCER_GROUP: self.group}
        if immunity_time is not None:
            if not 0 <= immunity_time <= _MAX_IMMUNITY:
                raise MessageError(f"immunity_time is {immunity_time!r}; it must be within 0..{_MAX_IMMUNITY:.0f} s")
            properties[Property.CHECK_IMMUNITY_TIME_IN_SECONDS] = str(ceil(immunity_time))
        outgoing = self._maker.message_with(msg, properties, without=DELAY_PROPERTIES)
        if msg.is_delayed:
            log.warning("%r cannot be delayed, as it is sent in a transaction; its delay is taken off", msg)
        outgoing.sys_flag |= MessageSysFlag.TRANSACTION_PREPARED
        return outgoing

    def _run(self, msg: Message, arg: object, half: SendResult, end: EndTransactionRequestHeader) -> _Outcome:
        if half.status is not SendStatus.SEND_OK:
            return LocalTransactionState.ROLLBACK, None
        self._ended.pop(half.msg_id, None)  # a message that is sent again
        self._executing[half.msg_id] = end
        try:
            return self._ask("execute", self._execute, msg, arg)
        finally:
            if self._executing.get(half.msg_id) is end:
                del self._executing[half.msg_id]

    def _remember(self, transaction_id: str) -> None:
        self._ended[transaction_id] = None
        if len(self._ended) > _MAX_ENDED:
            self._ended.popitem(last=False)

    # -- being asked ---------------------------------------------------------------------------------------------------------

    def _asked(self, address: str, header: CheckTransactionStateRequestHeader, half: MessageExt) -> None:
        """A broker wants to know how a transaction ended; with its question the half message has got another place."""
        end = self._executing.get(half.msg_id)
        if end is not None:
            # The state is unknown while it runs.  However the old place is ended, the broker will ask for the new one again: so
            # the new one is to be ended.
            if header.bname in (None, end.bname):
                end.tran_state_table_offset, end.commit_log_offset = header.tran_state_table_offset, header.commit_log_offset
                end.from_transaction_check = True
        elif not self._checks.put(lambda: self._answer(address, header, half)):
            log.warning("%s asks for the state of %s, but too many such questions wait; it will ask again", address, half)

    def _answer(self, address: str, header: CheckTransactionStateRequestHeader, half: MessageExt) -> None:
        half.broker_name = header.bname or half.broker_name
        if half.msg_id in self._ended:
            # The broker had not noted the end yet when it asked, or holds a second half message of a send that was tried again.
            # A commit of this one would deliver the message once more.
            state, exception = LocalTransactionState.ROLLBACK, None
        else:
            state, exception = self._ask("check", self._check_in_time, half)
        end = EndTransactionRequestHeader(
            topic=half.topic,  # the header's is the broker's own
            producer_group=self.group,
            tran_state_table_offset=header.tran_state_table_offset,
            commit_log_offset=header.commit_log_offset,
            commit_or_rollback=_END[state],
            from_transaction_check=True,
            msg_id=half.msg_id,
            transaction_id=header.transaction_id,
            bname=header.bname,
        )
        self._end(end, state, exception, address, half)

    def _check_in_time(self, half: MessageExt) -> object:
        try:
            return self._check(half)
        except gevent.Timeout as timeout:  # no caller of ours set it, so it is a failure like another
            raise TimeoutError(f"check let a gevent.Timeout through: {timeout}") from timeout

    # -- both ----------------------------------------------------------------------------------------------------------------

    def _ask(self, what: str, function: Callable[..., object], *args: object) -> _Outcome:
        try:
            state = function(*args)
            if not isinstance(state, LocalTransactionState):
                raise TypeError(f"{what} returned {state!r:.80}, not a LocalTransactionState")
            return state, None
        except Exception as error:
            log.exception("%s of transaction group %s failed; its state is unknown, the broker will ask", what, self.group)
            return LocalTransactionState.UNKNOWN, error

    def _end(
        self,
        end: EndTransactionRequestHeader,
        state: LocalTransactionState,
        exception: Exception | None,
        where: MessageQueue | str,
        message: Message,
    ) -> None:
        """Tell a broker how a transaction ended; if that fails it will ask.

        :param where: the half message's queue, or the address of the broker that asked.
        :param message: the half message.
        """
        end.commit_or_rollback = _END[state]
        remark = None if exception is None else f"{type(exception).__name__}: {exception}"[:_REMARK_CHARACTERS]
        unknown = state is LocalTransactionState.UNKNOWN
        deadline = Deadline(self.settings.send_timeout)
        try:
            address = where if isinstance(where, str) else self._instance.master_address(where, deadline)
            seconds = deadline.check(f"end a transaction at {address}")
            if self._trace is not None:
                from_check = bool(end.from_transaction_check)
                self._trace.end_transaction(message, end.msg_id, end.transaction_id, state, address, from_check=from_check)
            self._instance.api.end_transaction(address, end, remark, seconds, oneway=unknown)
        except GRocketMQError as error:
            log.warning("%s of transaction %s could not be told, the broker will ask: %s", state.name, end.msg_id, error)
        else:
            if not unknown:
                self._remember(end.msg_id)


def _result(half: SendResult, state: LocalTransactionState, exception: Exception | None) -> TransactionSendResult:
    return TransactionSendResult(
        half.status,
        half.msg_id,
        half.offset_msg_id,
        half.message_queue,
        half.queue_offset,
        half.transaction_id,
        half.region_id,
        half.recall_handle,
        state,
        exception,
    )
