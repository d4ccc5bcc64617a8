"""A table that tells which of its entries change, so that a journal can write those and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

__all__ = ["Table"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Table(dict[K, V]):
    """A dict that says after each change which key it was."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        #: Told the key of each entry that was set or deleted; must not block.
        self.on_change: Callable[[K], object] | None = None

    def touch(self, key: K) -> None:
        """Say that an entry changed in itself."""
        if self.on_change is not None:
            self.on_change(key)

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.touch(key)

    def __delitem__(self, key: K) -> None:
        super().__delitem__(key)
        self.touch(key)

    def pop(self, key: K, *default: Any) -> Any:
        """As a dict's."""
        present = key in self
        value = super().pop(key, *default)
        if present:
            self.touch(key)
        return value

    def setdefault(self, key: K, default: Any = None) -> Any:
        """As a dict's."""
        if key not in self:
            self[key] = default
        return self[key]
