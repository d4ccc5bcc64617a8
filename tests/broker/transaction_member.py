"""Program: a member of a transactional group that sends a half message, tells so, and never ends its local transaction.

``python -m tests.broker.transaction_member NAMESRV GROUP TOPIC BODY``; runs until it is killed.
"""

from __future__ import annotations

import os
import sys

import gevent

from grocketmq import LocalTransactionState, Message, MessageExt, TransactionProducer


def execute(msg: Message, arg: object) -> LocalTransactionState:
    os.write(1, f"{msg.transaction_id}\n".encode())
    gevent.sleep(3600)
    return LocalTransactionState.ROLLBACK


def check(msg: MessageExt) -> LocalTransactionState:
    return LocalTransactionState.ROLLBACK


def main(namesrv: str, group: str, topic: str, body: str) -> None:
    with TransactionProducer(group, namesrv=namesrv, execute=execute, check=check) as producer:
        producer.send_in_transaction(Message(topic, body))


if __name__ == "__main__":
    main(*sys.argv[1:])
