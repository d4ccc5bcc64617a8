"""Send messages that are delivered only if a local transaction is committed.

The local transaction here is an entry in a dictionary.  One order fails, and of one nobody knows at first how it ended: the
broker asks, after 6 s at the earliest and 30 s later at most, unless it is configured otherwise.

Usage: python examples/producer_transaction.py [host:port]    (default: the environment variable NAMESRV_ADDR)
"""

import sys

from grocketmq import LocalTransactionState, Message, MessageExt, TransactionProducer

TOPIC = "example_transactions"

booked: dict[str, str] = {}


def execute(msg: Message, order: str) -> LocalTransactionState:
    """The local transaction; it runs in the greenlet that sends, when the broker holds the message."""
    if order == "order-2":
        return LocalTransactionState.ROLLBACK  # sold out; nobody gets the message
    assert msg.transaction_id is not None
    booked[msg.transaction_id] = order
    if order == "order-3":
        raise ConnectionError("the database does not answer")  # was it committed or not?
    return LocalTransactionState.COMMIT


def check(msg: MessageExt) -> LocalTransactionState:
    """A broker asks how a transaction ended, maybe one of another process of the group that is gone."""
    if msg.transaction_id in booked:
        return LocalTransactionState.COMMIT
    return LocalTransactionState.ROLLBACK


def main() -> None:
    namesrv = sys.argv[1] if len(sys.argv) > 1 else None
    with TransactionProducer("example_transaction_producer", namesrv=namesrv, execute=execute, check=check) as producer:
        for order in ("order-1", "order-2", "order-3"):
            result = producer.send_in_transaction(Message(TOPIC, f"{order} is booked", keys=order), order)
            print(f"{order}: {result.local_transaction_state.name}", result.exception or "")
    print(f"{len(booked)} orders are booked")


if __name__ == "__main__":
    main()
