"""gunicorn for either example; it is the whole configuration that clients need."""

from grocketmq.contrib.gunicorn import post_worker_init, worker_exit

__all__ = ["post_worker_init", "worker_exit"]

worker_class = "gevent"
workers = 2
graceful_timeout = 30  # more than the 10 s that clients get to end
