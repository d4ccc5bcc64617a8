"""Half messages: kept from consumers until their producer ends the transaction, or is asked how it ended.

A check puts the half message back behind the others, so that it has another place each time; the old place counts as done,
though it can still be committed, as at a real broker.

Source: Apache RocketMQ 5.3.3, module broker, classes ``EndTransactionProcessor``, ``TransactionalMessageServiceImpl``,
``TransactionalMessageBridge``, ``AbstractTransactionalMessageCheckListener``.
"""

from __future__ import annotations

import itertools
import logging

from grocketmq.codes import RequestCode, ResponseCode
from grocketmq.embedded.answers import success
from grocketmq.embedded.clients import ClientTable
from grocketmq.embedded.clock import Clock, Timer, Timers
from grocketmq.embedded.delay import Draft, Intake
from grocketmq.embedded.store import MessageStore, Stored
from grocketmq.embedded.table import Table
from grocketmq.embedded.topics import TopicTable
from grocketmq.model.message import MessageExt
from grocketmq.model.message_id import encode_offset_msg_id
from grocketmq.model.namespace import TRANS_CHECK_MAX_TIME_TOPIC, TRANS_HALF_TOPIC
from grocketmq.model.properties import Property
from grocketmq.remoting.server import Channel, Handler, Refused
from grocketmq.wire import headers
from grocketmq.wire.command import RemotingCommand
from grocketmq.wire.flags import MessageSysFlag
from grocketmq.wire.message_codec import decode_message, encode_again

__all__ = ["Transactions"]

log = logging.getLogger(__name__)

#: The property that asks for the broker's own immunity time.
_USUAL_IMMUNITY = -1
#: Seconds until the checks notice an end: a broker notes ends in batches.  One it has not noticed it asks for once more.
_OP_DELAY = 3.0
#: What brokers say when nobody has thought of a remark.
_NO_REMARK = "not set any response code"


class Transactions:
    """Keeps half messages and ends them.

    :param broker_name: the broker's name.
    :param timeout: seconds a half message is left alone.
    :param check_interval: seconds from one round of checks to the next.
    :param check_max: checks of one message; then it goes to a topic of the brokers and no consumer gets it.
    :param store: the broker's messages.
    :param intake: stores committed messages.
    :param topics: the broker's topics.
    :param clients: whom to ask.
    :param timers: run the checks.
    :param clock: the time.
    """

    def __init__(
        self,
        broker_name: str,
        timeout: float,
        check_interval: float,
        check_max: int,
        store: MessageStore,
        intake: Intake,
        topics: TopicTable,
        clients: ClientTable,
        timers: Timers,
        clock: Clock,
    ) -> None:
        #: Half messages that nobody has ended: offset in their queue -> commit log offset.
        self.pending: Table[int, int] = Table()
        #: Those that a producer has ended, which the checks have yet to notice.
        self.ended: Table[int, bool] = Table()
        self._broker_name = broker_name
        self._timeout = timeout
        self._check_interval = check_interval
        self._check_max = check_max
        self._store = store
        self._intake = intake
        self._topics = topics
        self._clients = clients
        self._timers = timers
        self._clock = clock
        self._turn = itertools.count(1)
        self._next_round: Timer | None = None

    def handlers(self) -> dict[int, Handler]:
        """The requests it serves."""
        return {RequestCode.END_TRANSACTION: self._end}

    def start(self) -> None:
        """Begin with the rounds of checks; never blocks."""
        self._next_round = self._timers.after(self._check_interval, self._round)

    def stop(self) -> None:
        """No round any more; never blocks."""
        if self._next_round is not None:
            self._next_round.cancel()

    def put_half(self, draft: Draft) -> Stored:
        """Store a half message; never blocks.

        :param draft: the message as it was sent; its topic, queue and properties are changed.
        :raises Refused: with code 13, for a message no broker stores.
        """
        properties = draft.properties
        if unique_id := properties.get(Property.UNIQ_KEY):
            properties[Property.TRANSACTION_ID] = unique_id
        properties[Property.REAL_TOPIC], properties[Property.REAL_QUEUE_ID] = draft.topic, str(draft.queue_id)
        draft.topic, draft.queue_id = TRANS_HALF_TOPIC, 0
        draft.sys_flag &= ~MessageSysFlag.TRANSACTION_MASK
        stored = self._intake.put_plain(draft)
        self.pending[stored.queue_offset] = stored.commit_log_offset
        return stored

    # -- the producer ends it ------------------------------------------------------------------------------------------------

    def _end(self, request: RemotingCommand, channel: Channel) -> RemotingCommand | None:
        header = headers.EndTransactionRequestHeader.parse(request.ext_fields)
        if not header.commit_or_rollback:
            return None
        half = self._half_at(header.commit_log_offset)
        if half is None:
            raise Refused(ResponseCode.SYSTEM_ERROR, "Find prepared transaction message failed")
        if not header.from_transaction_check and self._came_late(half):
            raise Refused(ResponseCode.ILLEGAL_OPERATION, _NO_REMARK)
        if half.properties.get(Property.PRODUCER_GROUP) != header.producer_group:
            raise Refused(ResponseCode.SYSTEM_ERROR, "The producer group wrong")
        if half.queue_offset != header.tran_state_table_offset:
            raise Refused(ResponseCode.SYSTEM_ERROR, "The transaction state table offset wrong")
        committed = header.commit_or_rollback == MessageSysFlag.TRANSACTION_COMMIT
        if committed:
            self._commit(half)
        self.ended[half.queue_offset] = True
        self._timers.after(_OP_DELAY, self._notice, half.queue_offset)
        return success(request, remark=None if committed else _NO_REMARK)

    def load(self) -> None:
        """Take over what was kept over a restart; never blocks."""
        for queue_offset in list(self.ended):
            self._notice(queue_offset)

    def _notice(self, queue_offset: int) -> None:
        self.ended.pop(queue_offset, None)
        self.pending.pop(queue_offset, None)

    def _half_at(self, commit_log_offset: int) -> MessageExt | None:
        frame = self._store.log.at(commit_log_offset)
        return None if frame is None else decode_message(frame, decompress=False)

    def _came_late(self, half: MessageExt) -> bool:
        """Whether its own immunity time is over, so that only the answer to a check counts."""
        own = self._own_immunity(half)
        return own is not None and self._age_ms(half) > max(_number(own) or 0, self._timeout) * 1000

    def _commit(self, half: MessageExt) -> None:
        properties = half.properties
        sys_flag = half.sys_flag & ~MessageSysFlag.TRANSACTION_MASK | MessageSysFlag.TRANSACTION_COMMIT
        topic, queue_id = properties.pop(Property.REAL_TOPIC), int(properties.pop(Property.REAL_QUEUE_ID))
        draft = Draft.of(half, topic, queue_id)
        draft.sys_flag = sys_flag
        draft.prepared_transaction_offset = half.commit_log_offset
        self._intake.put(draft)

    # -- the broker asks -----------------------------------------------------------------------------------------------------

    def _round(self) -> None:
        self.start()
        for queue_offset, commit_log_offset in list(self.pending.items()):
            half = self._half_at(commit_log_offset)
            if half is None:  # the log has dropped it
                del self.pending[queue_offset]
                continue
            times = _number(half.properties.get(Property.TRANSACTION_CHECK_TIMES)) or 0
            if times >= self._check_max:
                del self.pending[queue_offset]
                self._discard(half)
            elif self._age_ms(half) > self._immunity_ms(half):
                del self.pending[queue_offset]
                self._check(half, times + 1)
            elif self._own_immunity(half) is None:
                break  # those behind it are younger

    def _check(self, half: MessageExt, times: int) -> None:
        """Put it back, and ask a producer of its group for its end."""
        properties = half.properties
        properties[Property.TRANSACTION_CHECK_TIMES] = str(times)
        draft = Draft.of(half, half.topic, half.queue_id)
        draft.flag = draft.reconsume_times = 0  # as a real broker puts it back
        stored = self._intake.put_plain(draft)
        self.pending[stored.queue_offset] = stored.commit_log_offset
        channels = list(self._clients.producers.get(properties.get(Property.PRODUCER_GROUP, ""), ()))
        if channels:
            channels[next(self._turn) % len(channels)].send_request(self._check_request(half, stored))
        else:
            log.info("nobody of group %s is there to be asked of %s", properties.get(Property.PRODUCER_GROUP), half)

    def _check_request(self, half: MessageExt, stored: Stored) -> RemotingCommand:
        properties = half.properties
        unique_id = properties.get(Property.UNIQ_KEY)
        header = headers.CheckTransactionStateRequestHeader(
            topic=half.topic,
            tran_state_table_offset=stored.queue_offset,
            commit_log_offset=stored.commit_log_offset,
            msg_id=unique_id,
            transaction_id=unique_id,
            offset_msg_id=encode_offset_msg_id(*self._store.store_host, stored.commit_log_offset),
            bname=self._broker_name,
        )
        half.topic, half.queue_id = properties[Property.REAL_TOPIC], int(properties[Property.REAL_QUEUE_ID])
        half.queue_offset, half.commit_log_offset = stored
        properties[Property.WAIT_STORE_MSG_OK] = "false"  # as a real broker sends it
        return RemotingCommand(header.CODE, ext_fields=header.to_ext(), body=encode_again(half))

    def _discard(self, half: MessageExt) -> None:
        self._topics.create_own(TRANS_CHECK_MAX_TIME_TOPIC, 1)
        self._intake.put_plain(Draft.of(half, TRANS_CHECK_MAX_TIME_TOPIC, 0))

    def _age_ms(self, half: MessageExt) -> int:
        return self._clock.now_ms() - half.born_timestamp

    def _immunity_ms(self, half: MessageExt) -> float:
        own = _number(self._own_immunity(half))
        return (self._timeout if own in (None, _USUAL_IMMUNITY) else own) * 1000

    def _own_immunity(self, half: MessageExt) -> str | None:
        return half.properties.get(Property.CHECK_IMMUNITY_TIME_IN_SECONDS)


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None
