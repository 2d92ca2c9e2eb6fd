"""The cool-down: a release is taken only when it has been public for some days.

Most hostile releases are found and withdrawn within days; who waits is not among the first victims. The wait is held
by the package clients themselves (`npm --before`, `uv --exclude-newer`), so that it covers dependencies too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from callgate.errors import TrustError
from callgate.text import visible

DEFAULT_DAYS = 7


@dataclass(frozen=True, slots=True)
class Cooldown:
    """`days` 0, or `off`, lets everything pass. `before` fixes the moment, to repeat an earlier resolution."""

    days: int = DEFAULT_DAYS
    off: bool = False
    before: datetime | None = None
    now: datetime | None = None

    @property
    def active(self) -> bool:
        """Whether there is a wait at all."""
        return not self.off and (self.days > 0 or self.before is not None)

    @property
    def limit(self) -> datetime | None:
        """What was published later is not taken; None: everything is."""
        if not self.active:
            return None
        if self.before is not None:
            return self.before
        now = self.now or datetime.now(UTC)
        return (now - timedelta(days=self.days)).replace(microsecond=0)

    @property
    def text(self) -> str:
        """The limit as ISO 8601 in UTC, as the clients take it, or ''."""
        return iso(self.limit) if self.limit else ""

    def check(self, what: str, published: datetime | None) -> None:
        """Whether a release may be taken. Raises TrustError for one that is too young or has no date."""
        if self.limit is None:
            return
        if published is None:
            raise TrustError(
                f"the registry gives no release date for {visible(what, 120)}, so the cool-down cannot be held",
                next_step="look at the release yourself, then: --no-cooldown",
            )
        if published > self.limit:
            raise TrustError(
                f"{visible(what, 120)} was published on {published:%Y-%m-%d}, less than {self.days} days ago",
                next_step="wait, ask for an older version, or, if you know it to be good: --no-cooldown",
            )


def iso(moment: datetime) -> str:
    """`2026-11-15T00:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: object) -> datetime | None:
    """A moment as registries write it (ISO 8601), or None. Without a zone it is UTC."""
    if isinstance(text, datetime):
        return text if text.tzinfo else text.replace(tzinfo=UTC)
    if not isinstance(text, str) or len(text) > 40:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
