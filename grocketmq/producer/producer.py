"""``Producer``: sends messages.

The way of a send: check and pack the message (``outgoing``), find the topic's queues (``client.instance``), pick one
(``picker``), write the request and wait for its answer (``client.api``), and on a failure that another try may mend,
pick another queue.

Source: Apache RocketMQ 5.3.3, module client, class ``DefaultMQProducerImpl``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from time import monotonic
from typing import Any

import gevent
from gevent.event import AsyncResult

from grocketmq.client.config import split_options
from grocketmq.errors import (
    ClientStateError,
    ConfigError,
    GRocketMQError,
    MessageError,
    NotLeaderError,
    SendAttempt,
    send_failure,
)
from grocketmq.hooks import Hooks, SendMode, Sent, tell_begin
from grocketmq.model.message import Message, MessageExt
from grocketmq.model.results import SendResult, SendStatus
from grocketmq.model.route import MessageQueue, TopicPublishInfo
from grocketmq.producer.accumulator import Accumulator
from grocketmq.producer.broker_calls import BrokerCalls
from grocketmq.producer.config import AutoBatch, ProducerConfig
from grocketmq.producer.faults import DETECT_ROUND
from grocketmq.producer.oneway import OnewayPacer
from grocketmq.producer.outgoing import Outgoing, OutgoingMaker
from grocketmq.producer.picker import QueuePicker
from grocketmq.producer.requests import Requests
from grocketmq.producer.selector import QueueSelector, choose_queue, select_queue_by_hash
from grocketmq.producer.sends import Sends
from grocketmq.producer.window import SendWindow
from grocketmq.runtime.deadline import Backoff, Deadline

__all__ = ["Producer"]

log = logging.getLogger(__name__)

#: A try is not cut below this many seconds to leave time for later ones.
_SHORTEST_TRY = 1.0
#: Reading a member of an enumeration costs five times a global.
_SEND_OK = SendStatus.SEND_OK
_SYNC = SendMode.SYNC


class Producer(BrokerCalls):
    """Sends messages to the brokers of a cluster.

    One producer serves any number of greenlets of the thread that started it, whether the process is monkey-patched or not::

        with Producer("orders", namesrv="127.0.0.1:9876") as producer:
            result = producer.send(Message("orders-created", b"..."))

    :param group: the producer group's name; producers of one program share it.
    :param options: fields of :class:`~grocketmq.producer.config.ProducerConfig` and
        :class:`~grocketmq.client.config.ClientConfig`.
    :raises ConfigError: for a group, a name server or a setting that cannot work.
    """

    _RESTARTS = _STOPS_LAST = True

    def __init__(self, group: str, **options: Any) -> None:
        super().__init__(group, *split_options(type(self).__name__, options, ProducerConfig))

    def _renew(self) -> None:
        super()._renew()
        self._tasks = self._new_tasks()
        self._picker = QueuePicker(self._faults)
        self._window = SendWindow(self.settings.backpressure)
        self._send_hooks: Hooks | None = None
        self._accumulator: Accumulator | None = None

    def _debug(self) -> dict[str, Any]:
        return {**super()._debug(), "sends_under_way": self._sends.under_way, "async_sends_under_way": self._window.messages}

    # -- start and stop ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        instance = self._join_instance()
        self._start_hooks(instance)
        self._send_hooks = self._hooks if self._hooks.on_send else None
        #: Whether anybody wants to know how each try ended.
        self._tries_noted = self._faults is not None or bool(self._hooks.after_try)
        unit_mode = self.config.unit_name is not None
        self._maker = OutgoingMaker(self.group, self.settings, instance.unique_ids, unit_mode)
        self._oneway = OnewayPacer(self._tasks)
        if isinstance(self.settings.auto_batch, AutoBatch):
            self._accumulator = Accumulator(self.settings.auto_batch, self._tasks, partial(self._deliver_batch, self._sends))
        self._known = instance.routes.publish
        if self._faults is not None and self.settings.fault_detector:
            self._tasks.periodic("probe brokers", DETECT_ROUND, partial(self._probe_brokers, self._faults), DETECT_ROUND)
        self._requests = Requests(instance, self._publish_info, self._lasting_topics.add)
        instance.register_producer(self)

    def _shutdown(self, timeout: float) -> None:
        """New sends are refused by now.  Those under way end first, then brokers are told, then connections close."""
        deadline = Deadline(timeout)
        self._sends.wait(deadline)
        self._tasks.stop_periodic()
        self._tasks.join(deadline.remaining())
        self._tasks.kill()
        self._tell_untold()
        if self._joined:
            self._requests.close()
            self._oneway.close()
            self._stop_trace(deadline)
            self._instance.unregister_producer(self)
        self._leave_instance()

    # -- sending -------------------------------------------------------------------------------------------------------------

    def send(
        self,
        msg: Message,
        *,
        queue: MessageQueue | None = None,
        selector: QueueSelector | None = None,
        arg: object = None,
        timeout: float | None = None,
    ) -> SendResult:
        """Send a message and wait until a broker has stored it.

        Blocks at most ``timeout`` seconds.  A send that fails for want of an answer may have been stored all the same,
        and a retry stores it once more under the same id: consumers see it at least once.

        :param msg: the message; its id stays in its properties.
        :param queue: send to this queue, in one try.
        :param selector: chooses the queue, for one try: ``callable(queues, msg, arg) -> MessageQueue``.
        :param arg: handed to the selector.
        :param timeout: seconds, all tries together; None for ``send_timeout``.
        :returns: where it was stored, and how.
        :raises MessageError: no broker would take it; nothing was sent.
        :raises SendError: every try failed; the last one's error is its cause.
        :raises BrokerError: a broker refused it, and another try would not help.
        :raises TooManyRequestsError: the bound on calls in flight left no room in time; nothing was sent.
        :raises RemoteProtocolError: the broker's answer cannot be read; the message may have been stored.
        :raises ConfigError: both a queue and a selector were given.
        :raises RouteNotFoundError: the topic does not exist and may not be created.
        :raises RemotingError: no name server told the topic's route.
        """
        sends = self._enter()
        hooks = self._send_hooks
        try:
            deadline = Deadline(self.settings.send_timeout if timeout is None else timeout)
            if hooks is None:
                return self._deliver(sends, self._maker.message(msg), queue, selector, arg, deadline)
            told = hooks.begin_send(self.group, (msg,), _SYNC)  # as _hooked does it, but without a closure, for speed
            try:
                result = self._deliver(sends, self._maker.message(msg), queue, selector, arg, deadline)
            except BaseException as error:
                hooks.end_send(told, error=error)
                raise
            hooks.end_send(told, result)
            return result
        finally:
            self._leave(sends)

    def _hooked(
        self, msgs: Sequence[Message], deliver: Callable[[], Sent], mode: SendMode = _SYNC, *, transactional: bool = False
    ) -> Sent:
        hooks = self._send_hooks
        if hooks is None or not msgs:
            return deliver()
        return hooks.around_send(hooks.begin_send(self.group, msgs, mode, transactional=transactional), deliver)

    def send_orderly(self, msg: Message, sharding_key: str) -> SendResult:
        """Send to the queue of a key, so that messages of one key keep their order while the topic's queues stay as they are.

        Blocks at most ``send_timeout``; one try, since another broker would break the order.  Errors as :meth:`send`.

        :param msg: the message; the key is put into its properties.
        :param sharding_key: what must stay in order, such as an order number.
        """
        if not sharding_key:
            raise MessageError("send_orderly needs a sharding_key with something in it")
        msg.sharding_key = sharding_key
        return self.send(msg, selector=select_queue_by_hash, arg=sharding_key)

    def request(
        self,
        msg: Message,
        timeout: float | None = None,
        *,
        queue: MessageQueue | None = None,
        selector: QueueSelector | None = None,
        arg: object = None,
    ) -> MessageExt:
        """Send a message and wait until a consumer has replied to it.

        Blocks at most ``timeout`` seconds, for the send and the reply together.  A reply that comes later is dropped.  The
        request is stored and consumed as any message: without a reply it may have been handled all the same, and maybe more
        than once.

        :param msg: the message.
        :param timeout: seconds; None for ``send_timeout``.
        :param queue: as in :meth:`send`.
        :param selector: as in :meth:`send`.
        :param arg: as in :meth:`send`.
        :returns: what the consumer sent with :func:`~grocketmq.producer.requests.create_reply`; the first, should there be
            several.
        :raises RequestReplyTimeout: no reply in time.
        :raises SendError: the request could not be sent; and the other errors of :meth:`send`.
        :raises ClientStateError: the producer was shut down before the reply came.
        """
        sends = self._enter()
        try:
            deadline = Deadline(self.settings.send_timeout if timeout is None else timeout)

            def deliver(properties: dict[str, str]) -> SendResult:
                outgoing = self._maker.message_with(msg, properties)
                self._requests.prepare(msg.topic, deadline)
                return self._deliver(sends, outgoing, queue, selector, arg, deadline)

            return self._requests.ask(lambda properties: self._hooked([msg], lambda: deliver(properties)), msg, deadline)
        finally:
            self._leave(sends)

    def send_batch(
        self, msgs: Iterable[Message], *, queue: MessageQueue | None = None, timeout: float | None = None
    ) -> SendResult:
        """Send messages of one topic as one request, stored together in one queue.

        Blocks at most ``timeout`` seconds.  Too long a list is cut by :func:`~grocketmq.producer.split.split_batch`.

        :param msgs: at least one; one topic, one ``wait_store_ok``, no delay, no transaction.
        :param queue: send to this queue, in one try.
        :param timeout: seconds, all tries together; None for ``send_timeout``.
        :returns: one result; its ids are those of all messages, joined by commas.
        :raises MessageError: for a list that cannot travel together, or is too large.
        :raises SendError: as :meth:`send`, and the others too.
        """
        sends = self._enter()
        try:
            deadline = Deadline(self.settings.send_timeout if timeout is None else timeout)
            batch = list(msgs)
            return self._hooked(batch, lambda: self._deliver(sends, self._maker.batch(batch), queue, None, None, deadline))
        finally:
            self._leave(sends)

    def send_async(
        self,
        msg: Message,
        on_success: Callable[[SendResult], object] | None = None,
        on_error: Callable[[Exception], object] | None = None,
        *,
        queue: MessageQueue | None = None,
        selector: QueueSelector | None = None,
        arg: object = None,
        timeout: float | None = None,
    ) -> AsyncResult:
        """Send without waiting for the broker.

        Blocks only while the bound of ``backpressure`` is reached (or a large body is compressed).  Failed tries are
        repeated when no answer came; a broker's refusal is not.  The result is there before hooks and callbacks are called.  A
        send that ``shutdown`` cuts off gets a ``ClientStateError`` for its result; its callbacks are not called.

        :param msg: the message.
        :param on_success: called with the result, in a greenlet of its own; an exception in it is logged.
        :param on_error: called with the error, likewise.
        :param queue: as in :meth:`send`.
        :param selector: as in :meth:`send`.
        :param arg: as in :meth:`send`.
        :param timeout: as in :meth:`send`.
        :returns: gets the result, or the error that :meth:`send` would raise.
        :raises MessageError: no broker would take it.
        :raises ConfigError: a callback that cannot be called.
        :raises TooManyRequestsError: the bound left no room in time; nothing was sent.
        """
        for callback in (on_success, on_error):
            if callback is not None and not callable(callback):
                raise ConfigError(f"{callback!r:.80} cannot be called back")
        sends = self._enter()
        try:
            deadline = Deadline(self.settings.send_timeout if timeout is None else timeout)
            tell = tell_begin(self._send_hooks, self.group, (msg,), SendMode.ASYNC)
            try:
                outgoing = self._maker.message(msg)
                self._window.enter(len(outgoing.body), deadline)
            except BaseException as error:
                tell(error=error)
                raise
        finally:
            self._leave(sends)
        result = AsyncResult()
        begun = False

        def run() -> None:
            nonlocal begun
            begun = True
            try:
                found = self._deliver(sends, outgoing, queue, selector, arg, deadline, only_unanswered=True)
            except Exception as error:
                result.set_exception(error)
                self._window.leave(len(outgoing.body))  # first, since hooks may wait, and the callback may send
                tell(error=error)
                self._call_back(on_error, error)
            except BaseException as error:
                tell(error=error)
                raise
            else:
                result.set(found)
                self._window.leave(len(outgoing.body))
                tell(found)
                self._call_back(on_success, found)

        def ended(_: gevent.Greenlet) -> None:
            if not result.ready():  # it was killed, perhaps before it ran
                self._window.leave(len(outgoing.body))
                error = ClientStateError(f"{self!r} was shut down before the message was sent")
                result.set_exception(error)
                if not begun:
                    self._untold.append(partial(context.run, tell, error=error))

        context = copy_context()  # the caller's: for the selector, the hooks and the callbacks
        self._tasks.spawn("async send", context.run, run).rawlink(ended)
        return result

    def send_oneway(
        self,
        msg: Message,
        *,
        queue: MessageQueue | None = None,
        selector: QueueSelector | None = None,
        arg: object = None,
    ) -> None:
        """Send without asking for an answer: fast, and a loss is not noticed.

        Blocks while the route is fetched, and while the broker does not keep up (one message in some hundred asks for
        an answer, so that bursts do not run over the broker's queue, which drops what it cannot hold); at most
        ``send_timeout``.

        :param msg: the message.
        :param queue: send to this queue.
        :param selector: chooses the queue.
        :param arg: handed to the selector.
        :raises MessageError: no broker would take it.
        :raises TooManyRequestsError: the broker does not keep up.
        :raises RouteNotFoundError: the topic does not exist and may not be created.
        :raises RemotingError: there is no connection to the broker.
        """
        sends = self._enter()
        try:
            self._hooked((msg,), partial(self._post, sends, msg, queue, selector, arg), SendMode.ONEWAY)
        finally:
            self._leave(sends)

    def _post(
        self, sends: Sends, msg: Message, queue: MessageQueue | None, selector: QueueSelector | None, arg: object
    ) -> None:
        deadline = Deadline(self.settings.send_timeout)
        outgoing = self._maker.message(msg)
        info = self._publish_info(outgoing.message.topic, deadline)
        chosen = None
        if queue is not None or selector is not None:
            chosen = choose_queue(outgoing.message, info, queue, selector, arg)
        if chosen is None:
            chosen = self._picker.pick(info)
        if outgoing.timed:
            self._check_timers(chosen, deadline)
        instance = self._instance_for(sends)
        address = instance.send_address(chosen, deadline)
        command = self._maker.command(outgoing, chosen.broker_name, chosen.queue_id)
        if self._oneway.turn(chosen.broker_name, deadline):
            # Queued here, so that the messages of one caller keep their order.
            timeout = self.settings.send_timeout
            answer, give_up = instance.api.send_later(address, command, chosen, outgoing.msg_id, timeout)
            self._oneway.watch(chosen.broker_name, lambda: self._confirm(sends, answer, outgoing, chosen), give_up)
        else:
            instance.api.send_oneway(address, command, deadline)

    def _confirm(self, sends: Sends, answer: Callable[[], SendResult], outgoing: Outgoing, queue: MessageQueue) -> None:
        """Wait for the answer to a oneway message that asked for one; it is sent again when that fails."""
        try:
            answer()
        except GRocketMQError as error:
            if self._may_retry(error, only_unanswered=False):
                self._deliver(sends, outgoing, queue, None, None, Deadline(self.settings.send_timeout))
            else:
                log.warning("a oneway message to %s was refused: %s", queue, error)

    # -- the tries -----------------------------------------------------------------------------------------------------------

    def _publish_info(self, topic: str, deadline: Deadline) -> TopicPublishInfo:
        info = self._known.get(topic)
        if info is None or not info.queues or topic not in self._topics:
            self._topics.add(topic)
            info = self._find_queues(topic, self.settings.default_topic_queues, deadline)
        return info

    def _deliver(
        self,
        sends: Sends,
        outgoing: Outgoing,
        queue: MessageQueue | None,
        selector: QueueSelector | None,
        arg: object,
        deadline: Deadline,
        *,
        only_unanswered: bool = False,
    ) -> SendResult:
        """Try until a broker has stored it; ``only_unanswered`` gives up at the first refusal."""
        info = self._publish_info(outgoing.message.topic, deadline)
        wanted = None
        if queue is not None or selector is not None:
            wanted = choose_queue(outgoing.message, info, queue, selector, arg)
        if self._accumulator is not None and self._accumulator.takes(outgoing):
            self._instance_for(sends)  # or a copy of the call ends here
            return self._accumulator.send(outgoing, wanted, deadline, only_unanswered)
        attempts: tuple[SendAttempt, ...] = ()
        stored: SendResult | None = None
        failed_broker: str | None = None
        backoff: Backoff | None = None
        for left in range(1 if wanted else self.settings.retries + 1, 0, -1):
            chosen = wanted or self._picker.pick(info, failed_broker)
            if chosen.broker_name == failed_broker:
                backoff = backoff or Backoff(first=0.05, cap=0.5)
                gevent.sleep(min(backoff.next(), deadline.remaining()))
            began = monotonic()
            try:
                result = self._try(sends, outgoing, chosen, deadline, left)
            except GRocketMQError as error:
                if self._tries_noted:
                    self._note_try(chosen, monotonic() - began, error)
                if not self._may_retry(error, only_unanswered):
                    if stored is not None:
                        return stored
                    raise
                attempts = (*attempts, SendAttempt(chosen.broker_name, error, monotonic() - began))
                failed_broker = chosen.broker_name
                if deadline.expired:
                    break
                if isinstance(error, NotLeaderError):  # a static topic's queue has moved; soon is too late for the next try
                    info = self._moved(info.topic, deadline)
                continue
            if self._tries_noted:
                self._note_try(chosen, monotonic() - began)
            if result.status is _SEND_OK or not self.settings.retry_another_broker_when_not_ok:
                return result
            stored = result
            failed_broker = chosen.broker_name
        if stored is not None:
            return stored
        raise send_failure(outgoing.message.topic, attempts) from attempts[-1].error

    def _moved(self, topic: str, deadline: Deadline) -> TopicPublishInfo:
        with suppress(GRocketMQError):  # then the old one has to do
            self._instance.refresh_route(topic, deadline.remaining())
        return self._publish_info(topic, deadline)

    def _deliver_batch(
        self, sends: Sends, batch: Outgoing, queue: MessageQueue | None, deadline: Deadline, only_unanswered: bool
    ) -> SendResult:
        return self._deliver(sends, batch, queue, None, None, deadline, only_unanswered=only_unanswered)

    def _try(self, sends: Sends, outgoing: Outgoing, queue: MessageQueue, deadline: Deadline, left: int) -> SendResult:
        """One try, cut short enough to leave time for those left after it."""
        if outgoing.timed:
            self._check_timers(queue, deadline)
        instance = self._instance_for(sends)
        address = instance.send_address(queue, deadline)
        command = self._maker.command(outgoing, queue.broker_name, queue.queue_id)
        seconds = deadline.check("send")
        share = self.settings.try_timeout
        if share is None:
            share = seconds / left if seconds > left * _SHORTEST_TRY else _SHORTEST_TRY
        if share < seconds:
            deadline = Deadline(share)
        return instance.api.send(address, command, queue, outgoing.msg_id, deadline)

    def _call_back(self, callback: Callable[[Any], object] | None, value: object) -> None:
        if callback is not None:
            try:
                callback(value)
            except Exception:
                log.exception("callback %r of an async send failed; the send itself is not affected", callback)
