"""The webhook's reviews, by the policy that is in force at each."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from engine.admission.review import review
from engine.policy.status import CURRENT, INJECTION
from engine.settings import Settings
from zt.inject import Images, Injection
from zt.inject.needs import from_text

_log = logging.getLogger(__name__)


def handler(settings: Settings) -> Callable[[bytes], bytes]:
    """What answers the reviews of this evaluator's cluster; may be called in threads.

    It raises ValueError for what is no review.
    """
    webhook, cluster = settings.webhook, settings.cluster
    assert webhook is not None  # noqa: S101 - who serves a webhook has settings for one
    assert cluster is not None  # noqa: S101 - which require this too
    return reviewer(Injections(settings.policy, cluster), webhook.images)


def reviewer(injections: Injections, images: Images) -> Callable[[bytes], bytes]:
    """What answers reviews by what is in force."""

    def answer(body: bytes) -> bytes:
        return review(body, injections.current(), images)

    return answer


class Injections:
    """What the builder left for one cluster: followed by a link, read when that changes."""

    def __init__(self, folder: Path, cluster: str) -> None:
        """Nothing is read before it is asked for."""
        self._folder = folder
        self._cluster = cluster
        self._lock = threading.Lock()
        self._seen: Path | None = None
        self._read: Injection | None = None

    def current(self) -> Injection | None:
        """What is in force now; ``None`` before there is any."""
        try:
            target = (self._folder / CURRENT).readlink()
        except OSError:
            return self._read
        with self._lock:
            if target != self._seen:
                self._follow(target)
            return self._read

    def _follow(self, target: Path) -> None:
        path = self._folder / target / INJECTION / f"{self._cluster}.json"
        try:
            self._read = from_text(path.read_bytes())
        except (OSError, ValueError) as error:
            # Looked at again by the next review; what was read last stays in force.
            _log.error("what pods need could not be read: %s", error)
            return
        self._seen = target
