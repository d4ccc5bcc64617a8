"""Greenlets with a name, an owner and an end; deadlines; start and stop.  Knows gevent and nothing of RocketMQ."""
