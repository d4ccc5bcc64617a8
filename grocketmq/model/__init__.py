"""The values that travel: messages, queues, routes, results, subscriptions.  No I/O, no gevent, no clock."""
