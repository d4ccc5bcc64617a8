"""What helps to test code that uses grocketmq; its fixtures are in :mod:`grocketmq.testing.plugin`."""

from __future__ import annotations

from grocketmq.testing.consumption import Consumption

__all__ = ["Consumption"]
