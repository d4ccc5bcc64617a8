"""How long something did not work: from its first failure, with nothing good in between, to its next success."""

from __future__ import annotations

__all__ = ["Outages"]


class Outages:
    """Brokers that gave no answer, and topics that could not be sent to, by name; times are those of one clock, in seconds."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._last_good: dict[str, float] = {}
        #: When its last outage ended.
        self._back: dict[str, float] = {}

    @property
    def lasting(self) -> list[str]:
        """What has not worked again, sorted."""
        return sorted(self._since)

    def failed(self, name: str, began: float) -> None:
        """It did not work.

        :param began: when that was tried; what was good after it counts.  In an outage that has ended it is a part of that.
        """
        if began >= self._back.get(name, began):
            self._since.setdefault(name, max(began, self._last_good.get(name, began)))

    def worked(self, name: str, now: float) -> float | None:
        """It worked.

        :returns: how long it had not; None when nothing had failed.
        """
        self._last_good[name] = now
        since = self._since.pop(name, None)
        if since is None:
            return None
        self._back[name] = now
        return now - since
