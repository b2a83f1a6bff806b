"""What the page calls things."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from engine.page.html import Html, element
from engine.page.seen import Kind, Traffic
from zt.effective import EXTERNAL
from zt.render.names import short_names

NOBODY = "no identity"
KINDS = {
    Kind.SEEN: "Granted and seen",
    Kind.UNSEEN: "Granted, not seen",
    Kind.UNDECLARED: "Not granted, but let pass",
    Kind.REFUSED: "Refused",
}
_SHOWN = 60
_PORTS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Names:
    """Short names of parties."""

    short: Mapping[str, str]

    def of(self, party: str) -> str:
        """The name of a party, its ID where it has no shorter one."""
        name = self.short.get(party, party).removeprefix(EXTERNAL) or NOBODY
        return name if len(name) <= _SHOWN else f"{name[: _SHOWN - 1]}…"


def names(parties: Iterable[str]) -> Names:
    """The names of all parties of a page."""
    return Names(short_names(party for party in parties if party))


def plural(count: int, noun: str) -> str:
    """A count and what it counts."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(ports: Sequence[int]) -> str:
    """Ports, cut short where they are many."""
    more = len(ports) - _PORTS_SHOWN
    return ", ".join(map(str, ports[:_PORTS_SHOWN])) + (f" and {more} more" if more > 0 else "")


def told(traffic: Traffic) -> str:
    """Traffic in words."""
    parts = [
        (traffic.allowed - traffic.would_deny, "allowed"),
        (traffic.would_deny, "let pass, to be refused once enforced"),
        (traffic.denied, "refused"),
    ]
    words = [f"{count:,} {word}" for count, word in parts if count > 0]
    return ", ".join(words) or "not seen"


def moment(time: datetime | None) -> Html | str:
    """A time, to the second."""
    if time is None:
        return "never"
    utc = time.astimezone(UTC)
    return element("time", f"{utc:%Y-%m-%d %H:%M:%S}", datetime=utc.isoformat(timespec="seconds"))
