"""Carries out a confirmed plan: keys into KMS, everything else into the transcript.

Private keys exist in this process and in KMS alone. What is done is written down at once, so that
a ceremony which broke off is carried out again with the same plan, from where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.ca import transcript
from gateway.ca.certificates import (
    Authority,
    BadCertificateError,
    Profile,
    check_chain,
    fingerprint,
    load,
    load_certificate,
    make_issuing,
    make_root,
)
from gateway.ca.plan import Plan, Step
from gateway.ca.state import (
    BEGAN,
    DISABLED,
    DONE,
    ISSUED,
    PUBLISHED,
    ROOT_MADE,
    Root,
    State,
    refusal,
    state_of,
)
from gateway.keys import KeyStore

# Fields of the secrets: files of SPIRE's UpstreamAuthority "disk".
CERTIFICATE, KEY, BUNDLE = "tls.crt", "tls.key", "bundle.crt"


class CeremonyError(Exception):
    """A ceremony that may not be held, or that went wrong; the message says why."""


@dataclass(frozen=True, slots=True)
class Action:
    """Something to do: an event of the transcript, and of which root or cluster."""

    event: str
    whom: str

    def __str__(self) -> str:
        """For people."""
        return _SAID[self.event].format(self.whom)


_SAID = {
    ROOT_MADE: "make root {0}, and put its key into KMS",
    ISSUED: "make and sign an issuing CA for {0}, and put it into KMS with all published roots",
    PUBLISHED: "publish the roots in {0}, whose issuing CA stays",
    DISABLED: "disable the key of root {0} in KMS",
}


def actions(plan: Plan, state: State) -> Iterator[Action]:
    """What a plan comes to, in order."""
    if plan.step in (Step.FOUND, Step.ANNOUNCE):
        yield Action(ROOT_MADE, plan.root)
    if plan.step in (Step.ANNOUNCE, Step.RETIRE):
        for issuing in sorted(state.issuing, key=lambda item: item.cluster):
            yield Action(PUBLISHED, issuing.cluster)
    else:
        for cluster in plan.clusters:
            yield Action(ISSUED, cluster)
    if plan.step is Step.RETIRE:
        yield Action(DISABLED, plan.root)


@dataclass(frozen=True)
class Ceremony:
    """``store`` is the project of the root CA, ``path`` the transcript, ``clock`` says the time.

    ``wait`` is how long what was published must have been so before it is relied upon.
    """

    store: KeyStore
    path: Path
    wait: timedelta
    say: Callable[[str], None]
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def judge(self, plan: Plan) -> State:
        """The present state.

        Raises:
            CeremonyError: if the plan can't be carried out now.
            TranscriptError: if the transcript is not whole.
        """
        entries = transcript.read(self.path)
        state = state_of(entries)
        reason = refusal(plan, state, transcript.head(entries), self.clock(), self.wait)
        if reason:
            raise CeremonyError(reason)
        return state

    def carry_out(self, plan: Plan, confirmed: tuple[str, ...]) -> State:
        """Do what a plan says; ``confirmed`` is by whom, for the transcript.

        Raises:
            CeremonyError: if it can't be, now or any more; what was done stays done.
            KeyStoreError: if KMS fails; the same plan goes on from there.
        """
        state = self.judge(plan)
        if state.unfinished is None:
            facts = {"digest": plan.digest(), "plan": asdict(plan), "confirmed": list(confirmed)}
            self._append(BEGAN, **facts)
        try:
            for action in actions(plan, state):
                if (action.event, action.whom) not in state.done:
                    self.say(str(action))
                    self._do(plan, action)
        except BadCertificateError as error:
            raise CeremonyError(str(error)) from None
        self._append(DONE, step=str(plan.step), root=plan.root)
        return self._state()

    def _do(self, plan: Plan, action: Action) -> None:
        match action.event:
            case "root made":
                self._make_root(plan)
            case "issued":
                self._issue(plan, action.whom)
            case "published":
                self._publish(plan, action.whom)
            case "disabled":
                self._disable(action.whom)

    def _make_root(self, plan: Plan) -> None:
        profile = Profile(plan.trust_domain, plan.key_type, plan.root_lifetime)
        root = make_root(plan.root, profile, self.clock())
        version = self._put(_root_path(plan.root), root, {})
        self._append(ROOT_MADE, root=plan.root, version=version, **_public(root))

    def _issue(self, plan: Plan, cluster: str) -> None:
        root = self._signer(plan.root)
        profile = Profile(plan.trust_domain, plan.key_type, plan.issuing_lifetime)
        issuing = make_issuing(f"issuing CA of {cluster}", profile, self.clock(), root)
        check_chain(issuing.certificate, root.certificate)
        roots = self._to_publish(plan)
        version = self._put(_issuing_path(cluster), issuing, {BUNDLE: _bundle(roots)})
        facts = {**_public(issuing), "root": plan.root, "roots": [r.fingerprint for r in roots]}
        self._append(ISSUED, cluster=cluster, version=version, **facts)

    def _publish(self, plan: Plan, cluster: str) -> None:
        """The same issuing CA, with other roots beside it."""
        known = next(item for item in self._state().issuing if item.cluster == cluster)
        value = self.store.read(_issuing_path(cluster))
        issuing = self._loaded(value[CERTIFICATE], value[KEY], known.fingerprint)
        roots = self._to_publish(plan)
        version = self._put(_issuing_path(cluster), issuing, {BUNDLE: _bundle(roots)})
        published = [root.fingerprint for root in roots]
        self._append(PUBLISHED, cluster=cluster, version=version, roots=published)

    def _disable(self, name: str) -> None:
        for version in self.store.versions(_root_path(name)):
            if version.enabled:
                self.store.disable(_root_path(name), version.number)
        self._append(DISABLED, root=name)

    def _signer(self, name: str) -> Authority:
        """A root with its key, which is the one that the transcript knows."""
        known = self._state().root(name)
        if known is None:
            raise CeremonyError(f"the transcript knows no root {name}")
        value = self.store.read(_root_path(name), known.version)
        return self._loaded(value[CERTIFICATE], value[KEY], known.fingerprint)

    @staticmethod
    def _loaded(certificate: str, key: str, known: str) -> Authority:
        found = load(certificate, key)
        if fingerprint(found.certificate) != known:
            raise CeremonyError("KMS has another certificate than the transcript: stop, and look")
        return found

    def _put(self, path: str, authority: Authority, more: dict[str, str]) -> int:
        """Write a CA and read it back: what is relied upon is what is there."""
        value = {CERTIFICATE: authority.pem, KEY: authority.private_pem(), **more}
        version = self.store.write(path, value)
        if dict(self.store.read(path, version)) != value:
            raise CeremonyError(f"KMS does not return what was written to {path}: stop, and look")
        return version

    def _to_publish(self, plan: Plan) -> tuple[Root, ...]:
        """All roots that are trusted after the plan, the one that signs first."""
        roots = self._state().published
        if plan.step is Step.RETIRE:
            roots = tuple(root for root in roots if root.name != plan.root)
        first = plan.root if plan.step in (Step.FOUND, Step.ACTIVATE) else None
        active = self._state().active
        leading = first or (active.name if active else None)
        return tuple(sorted(roots, key=lambda root: root.name != leading))

    def _state(self) -> State:
        return state_of(transcript.read(self.path))

    def _append(self, event: str, **facts: object) -> None:
        transcript.append(self.path, event, facts, self.clock())


def _public(authority: Authority) -> dict[str, str]:
    certificate = authority.certificate
    return {"certificate": authority.pem, "fingerprint": fingerprint(certificate)}


def _bundle(roots: tuple[Root, ...]) -> str:
    for root in roots:
        load_certificate(root.certificate)
    return "".join(root.certificate for root in roots)


def _root_path(name: str) -> str:
    return f"root/{name}"


def _issuing_path(cluster: str) -> str:
    return f"spire/{cluster}"
