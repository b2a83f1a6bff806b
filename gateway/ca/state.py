"""Which roots and issuing CAs there are, as the transcript tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from gateway.ca.plan import Plan, Step
from gateway.ca.transcript import Entry

# Events of the transcript. What lies between ``BEGAN`` and ``DONE`` was done by one ceremony.
BEGAN, DONE = "began", "done"
ROOT_MADE, ISSUED, PUBLISHED, DISABLED = "root made", "issued", "published", "disabled"

# SPIRE's CAs are renewed at half of their life, so after two lives all are of the new kind, and
# everybody has the roots that were published with them.
_LIVES = 2


@dataclass(frozen=True, slots=True)
class Root:
    """A root. ``active`` is since when it signs, ``retired`` since when it is not published."""

    name: str
    certificate: str
    fingerprint: str
    version: int
    announced: datetime
    active: datetime | None = None
    retired: datetime | None = None


@dataclass(frozen=True, slots=True)
class Issuing:
    """The issuing CA of a cluster."""

    cluster: str
    root: str
    certificate: str
    fingerprint: str
    version: int
    since: datetime


@dataclass(frozen=True, slots=True)
class State:
    """The present. ``unfinished`` is the digest of a plan that was begun and not ended."""

    roots: tuple[Root, ...] = ()
    issuing: tuple[Issuing, ...] = ()
    unfinished: str | None = None
    done: frozenset[tuple[str, str]] = field(default_factory=frozenset)

    @property
    def active(self) -> Root | None:
        """The root that signs: of those in force, the one that began last."""
        signing = [root for root in self.published if root.active]
        return max(signing, key=lambda root: root.active or root.announced, default=None)

    @property
    def published(self) -> tuple[Root, ...]:
        """The roots that everybody trusts, or is about to."""
        return tuple(root for root in self.roots if root.retired is None)

    def root(self, name: str) -> Root | None:
        """The root of that name."""
        return next((root for root in self.roots if root.name == name), None)


def state_of(entries: Iterable[Entry]) -> State:
    """What a transcript comes to."""
    state = State()
    for entry in entries:
        state = _after(state, entry)
    return state


def _after(state: State, entry: Entry) -> State:
    facts = entry.facts
    match entry.event:
        case "began":
            return replace(state, unfinished=facts["digest"], done=frozenset())
        case "done":
            return _finished(state, entry)
        case "root made":
            return _did(replace(state, roots=(*state.roots, _root(entry))), entry, facts["root"])
        case "issued":
            others = tuple(item for item in state.issuing if item.cluster != facts["cluster"])
            issuing = (*others, _issuing(entry))
            return _did(replace(state, issuing=issuing), entry, facts["cluster"])
        case _:
            return _did(state, entry, facts.get("cluster") or facts.get("root", ""))


def _root(entry: Entry) -> Root:
    facts = entry.facts
    known = facts["root"], facts["certificate"], facts["fingerprint"], facts["version"]
    return Root(*known, announced=entry.time)


def _issuing(entry: Entry) -> Issuing:
    facts = entry.facts
    known = facts["cluster"], facts["root"], facts["certificate"], facts["fingerprint"]
    return Issuing(*known, version=facts["version"], since=entry.time)


def _did(state: State, entry: Entry, whom: str) -> State:
    return replace(state, done=state.done | {(entry.event, whom)})


def _finished(state: State, entry: Entry) -> State:
    """What a ceremony decided of its root holds once it is done."""
    step, name = Step(entry.facts["step"]), entry.facts["root"]
    roots = tuple(
        _root_after(root, step, entry.time) if root.name == name else root for root in state.roots
    )
    return replace(state, roots=roots, unfinished=None, done=frozenset())


def _root_after(root: Root, step: Step, at: datetime) -> Root:
    match step:
        case Step.FOUND | Step.ACTIVATE:
            return replace(root, active=at)
        case Step.ANNOUNCE:
            # Everybody has it from now on, not from when it was made.
            return replace(root, announced=at)
        case Step.RETIRE:
            return replace(root, retired=at)
        case Step.RENEW:
            return root


# --- What may be done -----------------------------------------------------------------------------


def refusal(plan: Plan, state: State, head: str, now: datetime, wait: timedelta) -> str | None:
    """Why a plan can't be carried out now, in a sentence; ``None`` if it can.

    ``wait`` is how long what was published must have been so before it is relied upon.
    """
    if state.unfinished == plan.digest():
        return None
    if state.unfinished is not None:
        return "another ceremony was begun and not ended: carry out its plan first"
    if plan.after != head:
        return "the plan was made for another state of the transcript: make it anew"
    return _JUDGES[plan.step](plan, state, now, wait)


def waiting(plan: Plan) -> timedelta:
    """How long everybody takes to have what was published."""
    return timedelta(seconds=_LIVES * plan.ca)


def _found(plan: Plan, state: State, now: datetime, wait: timedelta) -> str | None:
    del plan, now, wait
    return "there is a root already: announce another" if state.roots else None


def _announce(plan: Plan, state: State, now: datetime, wait: timedelta) -> str | None:
    del now, wait
    if state.active is None:
        return "there is no root yet: found one"
    if state.root(plan.root):
        return f"there was a root {plan.root} already: give the new one another name"
    pending = [root.name for root in state.published if root.active is None]
    return f"root {pending[0]} is announced already: activate it" if pending else None


def _activate(plan: Plan, state: State, now: datetime, wait: timedelta) -> str | None:
    root = state.root(plan.root)
    if root is None or root.retired:
        return f"no root {plan.root} is announced"
    if root.active:
        return f"root {plan.root} signs already"
    return _too_early(f"root {plan.root} is published", root.announced, now, wait)


def _renew(plan: Plan, state: State, now: datetime, wait: timedelta) -> str | None:
    del now, wait
    if state.active is None or state.active.name != plan.root:
        signs = state.active.name if state.active else "none"
        return f"the root that signs is {signs}, not {plan.root}"
    return None


def _retire(plan: Plan, state: State, now: datetime, wait: timedelta) -> str | None:
    root, active = state.root(plan.root), state.active
    if root is None or root.retired:
        return f"no root {plan.root} is published"
    if active is None or active.name == plan.root:
        return f"root {plan.root} is the one that signs: activate another first"
    below = [item.cluster for item in state.issuing if item.root == plan.root]
    if below:
        return f"the issuing CA of {below[0]} is still one of root {plan.root}: renew it first"
    since = max((item.since for item in state.issuing), default=now)
    return _too_early("all clusters have issuing CAs of another root", since, now, wait)


def _too_early(what: str, since: datetime, now: datetime, wait: timedelta) -> str | None:
    if now >= since + wait:
        return None
    return (
        f"{what} since {since:%Y-%m-%d %H:%M} only, and not everybody may know: wait until "
        f"{since + wait:%Y-%m-%d %H:%M} UTC"
    )


_JUDGES = {
    Step.FOUND: _found,
    Step.ANNOUNCE: _announce,
    Step.ACTIVATE: _activate,
    Step.RENEW: _renew,
    Step.RETIRE: _retire,
}
