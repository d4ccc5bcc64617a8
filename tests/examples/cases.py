"""The examples, and what each prints when it worked; shared by the tests on either cluster."""

import re

from tests.meta.source import ROOT
from tests.programs import Finished, run_program

EXAMPLES = ROOT / "examples"

#: Example -> what its output holds.  In this order: the consumer reads what producer_sync.py sends.
EXPECTED = {
    "producer_sync.py": r"(?s)(?:[0-9A-F]{32} is in .*? at offset \d+\s+){10}\Z",
    "producer_async.py": r"\A1000 stored, 0 failed\s*\Z",
    "producer_oneway.py": r"\A1000 sent, 1000 stored\s*\Z",
    "producer_ordered.py": r"(?s)\Aorder-1: .*order-2: .*order-3: ",
    "producer_batch.py": r"(?s)\A\d+ messages are in .* from offset \d+ on",
    "producer_auto_batch.py": r"\A200 messages in 200 places, sent with few requests\s*\Z",
    "producer_delay.py": r"(?s)\A(?:not )?taken back: .*(?:by level|after a delay|at a time): after [2-9]\.\d s",
    "producer_transaction.py": r"\A.*1: COMMIT\s+.*2: ROLLBACK\s+.*3: UNKNOWN the database .*\s+2 orders are booked",
    "request_reply.py": r"\Aapple: 0.30\s+pear: 0.45\s+melon: 2.10\s*\Z",
    "push_consumer.py": r"\A(?:order-\d: order \d \(created, region eu\)\s+){10,}\Z",
    "orderly_consumer.py": r"(?s)(?:order-\d: (?:created, paid, packed, shipped(?:, )?)+\s+){3}\Z",
    "broadcasting_consumer.py": r"\Atill-1: 5 changes\s+till-2: 5 changes\s*\Z",
    "pull_consumer.py": r"(?s)order-9: order 9 \(\S+, queue \d+, offset \d+\).*\d+ messages read",
    "lite_pull_consumer.py": r"(?s)\d of \d+ queues of example_orders are read here.*order-\d: order \d",
    "message_trace.py": r"(?s)ann: order-\S+ stored \(sync\).*ann: order-\S+ consumed.*found by key: one order.*lost: 0",
    "client_manager.py": r"booked \[0, 1, 2, 3, 4, 5, 6, 7\]; delivered again \[5[,\]]",
    "pop_consumer.py": r"\A\d{3,} messages consumed by 2 consumers of one group",
    "simple_consumer.py": r"\A1\d jobs done, [1-9]\d* of them at the second try",
}
#: Those for KapokMQ, which need its extra and another server.
KAPOKMQ = {
    "kapokmq_single.py": r"(?s)(?:[0-9a-f]{32}: order \d\s+){10}[0-9a-f]{32}: in a second\s+the server holds 11 messages",
    "kapokmq_cluster.py": r"(?s)\A200 messages sent to 3 of 3 nodes\s+(?:mq:127\.0\.0\.1:\d+: \d+ received\s+){3}\Z",
    "kapokmq_demo.py": r"(?s)\A2000 sent through 2 kills, .*PASSED\s*\Z",
}
#: Another example that must have run before.
AFTER = {
    **dict.fromkeys(("push_consumer.py", "pull_consumer.py", "lite_pull_consumer.py"), "producer_sync.py"),
    "orderly_consumer.py": "producer_ordered.py",
}


def run_example(name: str, namesrv: str, *, by_argument: bool = False, patched: bool = False) -> Finished:
    patch = ["-m", "gevent.monkey"] if patched else []
    where = {"namesrv": None} if by_argument else {"namesrv": namesrv}
    return run_program("-W", "error", *patch, str(EXAMPLES / name), *([namesrv] if by_argument else []), **where)


def check_example(name: str, namesrv: str, *, by_argument: bool = False, patched: bool = False) -> None:
    if name in AFTER:
        check_example(AFTER[name], namesrv, patched=patched)
    check_output(run_example(name, namesrv, by_argument=by_argument, patched=patched), EXPECTED[name])


def check_kapokmq_example(name: str, *arguments: str, patched: bool = False) -> None:
    patch = ["-m", "gevent.monkey"] if patched else []
    check_output(run_program("-W", "error", *patch, str(EXAMPLES / name), *arguments), KAPOKMQ[name])


def check_output(done: Finished, expected: str) -> None:
    assert done.status == 0, done
    assert done.stderr == ""
    assert re.search(expected, done.stdout), done.stdout
