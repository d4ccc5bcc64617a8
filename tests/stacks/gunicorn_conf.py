"""What a project's gunicorn.conf.py would hold."""

from grocketmq.contrib.gunicorn import post_worker_init, worker_exit

__all__ = ["post_worker_init", "worker_exit"]

worker_class = "gevent"
workers = 2
graceful_timeout = 20
