"""Receive messages on demand, acknowledge most of them, and see the others come again.  Needs a 5.x broker.

Usage: python examples/simple_consumer.py [host:port]    (default: the environment variable NAMESRV_ADDR)
"""

import sys
import time

from grocketmq import ConsumeFromWhere, Message, Producer, SimpleConsumer

TOPIC = "example_jobs"
JOBS = 10


def main() -> None:
    namesrv = sys.argv[1] if len(sys.argv) > 1 else None
    with Producer("example_job_senders", namesrv=namesrv) as producer:
        producer.create_topic(TOPIC, queues=2)
        for number in range(JOBS):
            producer.send(Message(TOPIC, f"job {number}"))

    done = again = 0
    deadline = time.monotonic() + 60
    # FIRST_OFFSET matters only when the group is new: later it goes on where it stopped.
    with SimpleConsumer("example_workers", namesrv=namesrv, consume_from=ConsumeFromWhere.FIRST_OFFSET) as consumer:
        consumer.subscribe(TOPIC)
        while (done < JOBS or not again) and time.monotonic() < deadline:
            for job in consumer.receive(max_messages=4, invisible=5.0, wait=5.0):
                if job.reconsume_times == 0 and job.body == b"job 3":
                    # Not done in time, as if this process had died.  With a longer job to do one would keep it:
                    #     consumer.change_invisible(job, 300.0)
                    continue
                consumer.ack(job)
                done += 1
                again += job.reconsume_times > 0
    print(f"{done} jobs done, {again} of them at the second try")
    if not again:
        sys.exit("job 3 did not come again")


if __name__ == "__main__":
    main()
