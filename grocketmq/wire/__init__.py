"""Bytes and the values they stand for.  Nothing here imports gevent, a socket, a clock or a logger."""
