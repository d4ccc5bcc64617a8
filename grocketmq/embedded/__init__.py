"""A RocketMQ cluster inside the process: for development, tests and demos, never for production."""

from __future__ import annotations

from grocketmq.embedded.cluster import EmbeddedCluster

__all__ = ["EmbeddedCluster"]
