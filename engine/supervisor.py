"""The evaluator's first process: binds its ports, starts the others, and builds changed policies.

It has no threads and no event loop, so that it can fork at any time. Its children are the workers,
which answer; the drainer, which moves records into the database; for each change of the policy a
builder that ends when it is done; and in a cluster whoever follows the SPIRE agent and the pods,
the admission webhook, and who keeps its CA.
"""

from __future__ import annotations

import importlib
import logging
import os
import resource
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, date, datetime
from functools import partial

from engine.children import SIGNALS, Child, Children
from engine.policy.changes import fingerprint
from engine.policy.status import read_status
from engine.settings import Settings
from engine.sockets import Sockets, bound
from engine.svid import is_usable, prepare

_LOOK = 0.5
_WORKER_GRACE = 8.0
_DRAIN_GRACE = 27.0
_WAITING_GRACE = 3.0
BUILDER_NICENESS = 10
_WORKER, _DRAINER, _BUILDER, _WATCH = "worker", "drainer", "builder", "pods"
_AGENT, _WAITING, _WEBHOOK, _CABUNDLE = "agent", "waiting", "webhook", "cabundle"
# Imported before anything is forked: its pages are shared, and a worker that died is soon back.
_SHARED = ("engine.worker", "engine.builder", "engine.audit.drain")

_log = logging.getLogger(__name__)


class StateError(Exception):
    """The state folder can't be used; the message is one sentence."""


def supervise(settings: Settings) -> None:
    """Run the evaluator until SIGTERM or SIGINT; on leaving, what is spooled is drained first.

    Raises:
        engine.sockets.ListenError: if a port is taken.
        StateError: if the state folder can't be written.
        engine.tls.SvidError: if the SVID can't be used.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    for module in _SHARED:
        importlib.import_module(module)
    _prepare(settings)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # one for each connection
    children = Children()
    with bound(settings) as sockets:
        policy = _Policy(settings, children)
        try:
            if settings.spire_socket is not None:
                _follow_agent(settings, sockets, children)
            policy.build_first()
            if not _has_svid(settings, children):
                return
            sockets.open()
            for child in _programs(settings, sockets):
                children.start(child)
            _watch(children, policy)
        finally:
            _log.info("stops")
            children.stop(lambda name: name != _DRAINER, _WORKER_GRACE)
            # Workers append until they end; what they appended is drained after.
            children.stop(lambda name: name == _DRAINER, _DRAIN_GRACE)


def _watch(children: Children, policy: _Policy) -> None:
    """Restart what died and build what changed, until told to stop."""
    while not _is_told_to_stop():
        for ended in children.reap():
            if ended.name == _BUILDER:
                policy.building = False
        children.resume()
        policy.look()


def _is_told_to_stop() -> bool:
    """Rest until a child ends, or for a moment."""
    caught = signal.sigtimedwait(SIGNALS, _LOOK)
    return caught is not None and caught.si_signo != signal.SIGCHLD


def _follow_agent(settings: Settings, sockets: Sockets, children: Children) -> None:
    """Ask the SPIRE agent for an SVID, and have health say so meanwhile."""
    children.start(Child(_AGENT, lambda: _run("engine.spire.agent", settings)))
    waits = partial(_run, "engine.spire.waiting", settings, sockets.health)
    children.start(Child(_WAITING, waits))


def _has_svid(settings: Settings, children: Children) -> bool:
    """Wait for the first SVID; false if told to stop before."""
    folder = settings.svid_path
    if settings.spire_socket is None or folder is None:
        return True
    while not is_usable(folder):
        if _is_told_to_stop():
            return False
        for _ in children.reap():
            pass
        children.resume()
    children.stop(lambda name: name == _WAITING, _WAITING_GRACE)
    return True


class _Policy:
    """Builds the policy when its files or the day change, one build at a time."""

    def __init__(self, settings: Settings, children: Children) -> None:
        self._settings = settings
        self._children = children
        self._seen: object = None
        self.building = False

    def build_first(self) -> None:
        """Build before anybody is started, so that the first answers are not all DENY."""
        self.look()
        while self.building:
            signal.sigtimedwait({signal.SIGCHLD}, _LOOK)
            if any(ended.name == _BUILDER for ended in self._children.reap()):
                self.building = False

    def look(self) -> None:
        """Start a build if something changed and none is running."""
        if self.building:
            return
        seen = _today(), fingerprint(self._settings.policy_path)
        if seen == self._seen:
            return
        self._seen = seen
        self.building = True
        self._children.start(Child(_BUILDER, self._build, restart=False))

    def _build(self) -> int:
        from engine.builder import build  # noqa: PLC0415 - imported by supervise, before

        os.nice(BUILDER_NICENESS)  # whoever answers goes first
        build(self._settings.policy_path, self._settings.policy, _today())
        return 0


def _programs(settings: Settings, sockets: Sockets) -> Iterator[Child]:
    from engine.audit import drain  # noqa: PLC0415 - imported by supervise, before
    from engine.worker import work  # noqa: PLC0415

    yield Child(_DRAINER, lambda: drain.run(settings.spool, settings.audit, settings.state_path))
    if settings.cluster is not None:
        yield Child(_WATCH, lambda: _run("engine.kubernetes.pods", settings))
    if sockets.webhook is not None:
        # By itself, so that nothing an API server asks holds up a decision.
        yield Child(_WEBHOOK, lambda: _run("engine.webhook", settings, sockets.webhook))
        yield Child(_CABUNDLE, lambda: _run("engine.kubernetes.cabundle", settings))
    for _ in range(settings.workers):
        yield Child(_WORKER, lambda: work(settings, sockets))


def _run(module: str, *arguments: object) -> int:
    """A program that is imported by its own process alone."""
    code: int = importlib.import_module(module).run(*arguments)
    return code


def _today() -> date:
    return datetime.now(UTC).date()


def _prepare(settings: Settings) -> None:
    """The state folder: what waits for the database stays, counters begin anew."""
    prepare(settings)
    shutil.rmtree(settings.metrics, ignore_errors=True)
    try:
        for folder in (settings.spool, settings.policy, settings.metrics):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        read_status(settings.policy)
    except OSError as error:
        raise StateError(
            f"{error.filename} cannot be made: {error.strerror}; set ZT_STATE_PATH to a folder "
            "that the evaluator may write"
        ) from None
