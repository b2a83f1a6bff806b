"""Keeps the CA by which API servers know the webhook: a program of its own.

``caBundle`` of a MutatingWebhookConfiguration is the mesh's trust bundle, which changes by itself;
nothing else that is installed knows it. Each replica of the evaluator looks every few seconds, so
it is put right whoever changed the object, or made it anew.
"""

from __future__ import annotations

import base64
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from cryptography import x509

from engine.again import for_ever
from engine.kubernetes.client import (
    CONFLICT,
    NOT_FOUND,
    Json,
    Kubernetes,
    KubernetesError,
    in_cluster,
)
from engine.settings import Settings
from engine.tls import BUNDLE

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/"
# Whose fields these are, in the object's managedFields.
MANAGER = "zt-policy-engine"
_LOOK = 2.0
_LONGEST = 30.0
# A CA that only the object has may be one that this replica is about to hear of.
_PATIENCE = 20.0
_TEST_FAILED = 422

_log = logging.getLogger(__name__)

Certificates = frozenset[x509.Certificate]


@dataclass
class Keeper:
    """Keeps one configuration. ``step`` looks once."""

    api: Kubernetes
    name: str
    bundle: Path
    clock: Callable[[], float] = time.monotonic
    _strange_since: float | None = None

    def step(self) -> bool:
        """Put it right if need be; whether that was done.

        Raises:
            KubernetesError: if the API can't be asked, or refuses.
            OSError: if there is no trust bundle.
            ValueError: if the file holds none.
        """
        pem = self.bundle.read_bytes()
        ours = frozenset(x509.load_pem_x509_certificates(pem))
        found = self.api.get(CONFIGURATIONS + self.name)
        present = [_certificates(hook) for hook in _hooks(found)]
        if not self._is_to_change(ours, present):
            return False
        return self._change(found, pem)

    def _is_to_change(self, ours: Certificates, present: list[Certificates | None]) -> bool:
        """At once if one of ours is missing; if there are others beside them, after a while.

        During a change of the trust bundle replicas hear of it one after the other. So they never
        write against each other.
        """
        if any(found is None or not found >= ours for found in present):
            self._strange_since = None
            return True
        if all(found == ours for found in present):
            self._strange_since = None
            return False
        now = self.clock()
        self._strange_since = now if self._strange_since is None else self._strange_since
        return now - self._strange_since > _PATIENCE

    def _change(self, found: Json, pem: bytes) -> bool:
        """Set it in each webhook, if the object is still what was looked at."""
        path = CONFIGURATIONS + self.name
        try:
            self.api.patch(path, list(_operations(found, pem)), MANAGER)
        except KubernetesError as error:
            if error.status in (CONFLICT, _TEST_FAILED):
                return False  # another was faster: looked at again in a moment
            raise
        self._strange_since = None
        _log.info("%s has the trust bundle", self.name)
        return True


def _operations(found: Json, pem: bytes) -> Iterator[Json]:
    version = found["metadata"]["resourceVersion"]
    yield {"op": "test", "path": "/metadata/resourceVersion", "value": version}
    value = base64.b64encode(pem).decode()
    for number in range(len(_hooks(found))):
        yield {"op": "add", "path": f"/webhooks/{number}/clientConfig/caBundle", "value": value}


def _hooks(found: Json) -> list[Json]:
    listed: Any = found.get("webhooks") or []
    return [hook for hook in listed if isinstance(hook, dict)]


def _certificates(hook: Json) -> Certificates | None:
    """Those of a webhook; ``None`` if it has none that can be read."""
    try:
        pem = base64.b64decode(hook["clientConfig"]["caBundle"])
        return frozenset(x509.load_pem_x509_certificates(pem))
    except (KeyError, TypeError, ValueError):
        return None


def keep(keeper: Keeper, sleep: Callable[[float], None] = time.sleep) -> NoReturn:
    """Keep it for ever; what breaks is tried again, at longer intervals."""
    said = ""

    def step() -> bool:
        nonlocal said
        problem, went_well = "", True
        try:
            keeper.step()
        except (KubernetesError, OSError, ValueError) as error:
            # An object that is not there may be made at any moment, and pods then wait for its CA.
            problem, went_well = _sentence(keeper, error), _is_missing(error)
            if problem != said:
                _log.warning("%s", problem)
        said = problem
        return went_well

    for_ever(step, _LOOK, _LONGEST, sleep)


def _is_missing(error: Exception) -> bool:
    return isinstance(error, KubernetesError) and error.status == NOT_FOUND


def _sentence(keeper: Keeper, error: Exception) -> str:
    if _is_missing(error):
        return f"there is no MutatingWebhookConfiguration {keeper.name} yet: no pod is injected"
    return f"the CA of {keeper.name} stays as it is: {error}"


def run(settings: Settings) -> int:
    """Keep the configuration of the evaluator's own cluster until the process is ended."""
    assert settings.webhook is not None  # noqa: S101 - started where there is one
    assert settings.svid_path is not None  # noqa: S101 - as settings require
    bundle = settings.svid_path / BUNDLE
    keep(Keeper(in_cluster(os.environ), settings.webhook.configuration, bundle))
