"""grocketmq's side of each scenario with the metrics of ``grocketmq.contrib.prometheus``."""

from __future__ import annotations

from functools import partial

from bench import client
from grocketmq.contrib.prometheus import PrometheusHook

__all__ = ["SIDES"]

_HOOKS = (PrometheusHook(),)
SIDES = {kind: partial(side, hooks=_HOOKS) for kind, side in client.SIDES.items()}
