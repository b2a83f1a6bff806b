"""Keeps the table of pods (``engine.locate``) as the cluster has it: a program of its own.

Lists, then watches from there on. Whatever breaks, the table stays as it was last known, and is
listed again as soon as the API answers. Only while it is watched is it said to be live.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import orjson

from engine.again import for_ever
from engine.files import write_whole
from engine.identity import own_identity, trust_domain_of
from engine.kubernetes.client import GONE, Json, Kubernetes, KubernetesError, in_cluster
from engine.locate import live_sign
from engine.settings import Settings
from zt.spiffe import spiffe_id

PODS = "/api/v1/pods"
_PAGE = 500
# A watch that lived so long is begun anew from a list, in case an event was missed.
_RESYNC = 900.0
_WATCH_SECONDS = 300
_SHORTEST, _LONGEST = 0.2, 30.0
# Seconds between two signs of life.
_BEAT = 5.0
# The API sends a bookmark every minute, however little happens; who sends none hangs.
_SILENCE = 100.0
_ENDED = ("Succeeded", "Failed")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """A pod with its addresses."""

    uid: str
    name: str
    node: str
    spiffe: str
    addresses: tuple[str, ...]
    created: str
    leaving: bool


@dataclass
class Table:
    """The pods of a cluster by UID, and the file that holds them by address."""

    trust_domain: str
    cluster: str
    path: Path
    pods: dict[str, Place] = field(default_factory=dict)
    _written: bytes = b""
    _behind: bool = True

    def replace(self, pods: list[Json]) -> None:
        """Hold just these."""
        places = filter(None, (self._place(pod) for pod in pods))
        self.pods = {place.uid: place for place in places}

    def put(self, pod: Json) -> None:
        """Hold a pod as it is now."""
        place = self._place(pod)
        if place is None:
            self.forget(pod)
        else:
            self.pods[place.uid] = place

    def forget(self, pod: Json) -> None:
        """Hold a pod no longer."""
        self.pods.pop(_text(_at(pod, "metadata"), "uid"), None)

    def write(self) -> bool:
        """Write the file if it would be another than before; whether it was."""
        content = orjson.dumps(self.by_address(), option=orjson.OPT_SORT_KEYS)
        if content == self._written and self.path.exists():
            self._behind = False
            return False
        self._behind = True
        write_whole(self.path, content)
        self._written, self._behind = content, False
        return True

    def by_address(self) -> dict[str, dict[str, str | bool]]:
        """As ``engine.locate`` reads it. Of pods that share an address, the latest to stay."""
        found: dict[str, dict[str, str | bool]] = {}
        for place in sorted(self.pods.values(), key=_seniority):
            entry: dict[str, str | bool] = {
                "pod": place.name,
                "node": place.node,
                "spiffe": place.spiffe,
                **({"leaving": True} if place.leaving else {}),
            }
            found.update(dict.fromkeys(place.addresses, entry))
        return found

    def beat(self) -> None:
        """Say that it is live, if the file is what is held."""
        if not self._behind:
            live_sign(self.path).touch()

    def _place(self, pod: Json) -> Place | None:
        """A pod that runs and has an address of its own."""
        metadata, spec, status = (_at(pod, part) for part in ("metadata", "spec", "status"))
        addresses = tuple(_addresses(status))
        if not addresses or spec.get("hostNetwork") or status.get("phase") in _ENDED:
            return None
        namespace, account = _text(metadata, "namespace"), _text(spec, "serviceAccountName")
        return Place(
            uid=_text(metadata, "uid"),
            name=_text(metadata, "name"),
            node=_text(spec, "nodeName"),
            spiffe=spiffe_id(self.trust_domain, self.cluster, namespace, account or "default"),
            addresses=addresses,
            created=_text(metadata, "creationTimestamp"),
            leaving=bool(metadata.get("deletionTimestamp")),
        )


def _seniority(place: Place) -> tuple[bool, str, str]:
    """Those that leave first, then by age: what comes later holds the address."""
    return not place.leaving, place.created, place.name


def _addresses(status: Mapping[str, Any]) -> Iterator[str]:
    listed = status.get("podIPs")
    items = listed if isinstance(listed, list) else []
    found = [*(_at_item(item).get("ip") for item in items), status.get("podIP")]
    yield from dict.fromkeys(text for text in found if isinstance(text, str) and text)


def _at(pod: Json, part: str) -> Json:
    return _at_item(pod.get(part))


def _at_item(value: Any) -> Json:  # noqa: ANN401 - any JSON value
    return value if isinstance(value, dict) else {}


def _text(value: Json, name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) else ""


class Watch:
    """Follows the pods of an API server. ``step`` does one round."""

    def __init__(self, api: Kubernetes, table: Table, debounce: float = 0.2) -> None:
        """Nothing is asked before ``step``; the file lags behind by ``debounce`` seconds."""
        self._api = api
        self._table = table
        self._debounce = debounce
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._version = ""
        self._listed = 0.0
        self._heard = 0.0

    def step(self) -> None:
        """List if need be, then watch until the stream ends.

        Raises:
            KubernetesError: if either breaks; what was watched until then is not lost.
            OSError: if the file can't be written.
        """
        if not self._version or time.monotonic() - self._listed > _RESYNC:
            self._list()
        asked = {"resourceVersion": self._version, "allowWatchBookmarks": "true"}
        ended = threading.Event()
        beating = threading.Thread(target=self._beat, args=(ended,), daemon=True)
        try:
            for event in self._api.watch(PODS, _WATCH_SECONDS, beating.start, **asked):
                self._take(event)
        except KubernetesError as error:
            if error.status == GONE:
                self._version = ""
            raise
        finally:
            ended.set()

    def _beat(self, ended: threading.Event) -> None:
        """Say that the table is live until the stream ends."""
        self._heard = time.monotonic()
        while not ended.is_set():
            with self._lock:
                if time.monotonic() - self._heard > _SILENCE:
                    return
                try:
                    self._table.beat()
                except OSError as error:
                    _log.error("%s can't be said to be live: %s", self._table.path, error)
            ended.wait(_BEAT)

    def _list(self) -> None:
        """Pages of pods, and the version from which to watch."""
        pods: list[Json] = []
        onward = ""
        while True:
            query = {"continue": onward} if onward else {}
            page = self._api.get(PODS, limit=_PAGE, **query)
            pods.extend(item for item in page.get("items") or () if isinstance(item, dict))
            onward = _text(_at(page, "metadata"), "continue")
            if not onward:
                break
        with self._lock:
            self._table.replace(pods)
            self._table.write()
        self._version = _text(_at(page, "metadata"), "resourceVersion")
        self._listed = time.monotonic()
        _log.info("%d pods are known", len(self._table.pods))

    def _take(self, event: Json) -> None:
        self._heard = time.monotonic()
        kind, item = _text(event, "type"), _at(event, "object")
        if kind == "ERROR":
            code = item.get("code")
            status = code if isinstance(code, int) else 0
            raise KubernetesError(status, f"the watch ended: {_text(item, 'message')}")
        with self._lock:
            if kind in ("ADDED", "MODIFIED"):
                self._table.put(item)
            elif kind == "DELETED":
                self._table.forget(item)
            if self._timer is None:
                self._timer = threading.Timer(self._debounce, self._write)
                self._timer.daemon = True
                self._timer.start()
        self._version = _text(_at(item, "metadata"), "resourceVersion") or self._version

    def _write(self) -> None:
        with self._lock:
            self._timer = None
            try:
                self._table.write()
            except OSError as error:
                _log.error("%s stays as it was: %s", self._table.path, error)


def follow(watch: Watch, sleep: Callable[[float], None] = time.sleep) -> NoReturn:
    """Follow the pods for ever; what breaks is tried again, at longer intervals."""

    def step() -> bool:
        try:
            watch.step()
        except KubernetesError as error:
            if error.status != GONE:
                _log.warning("pods are as they were last known: %s", error)
        except OSError as error:
            _log.error("pods are as they were last known: %s", error)
        return False  # a watch that ends is only good if it was long

    for_ever(step, _SHORTEST, _LONGEST, sleep)


def run(settings: Settings) -> int:
    """Keep the table of the evaluator's own cluster until the process is ended."""
    own, cluster, path = own_identity(settings.svid_path), settings.cluster, settings.locations
    if own is None or cluster is None or path is None:
        raise KubernetesError(0, "pods can't be named without the evaluator's own SVID")
    # What another process said here before is not this one's to say.
    live_sign(path).unlink(missing_ok=True)
    table = Table(trust_domain_of(own), cluster, path)
    follow(Watch(in_cluster(os.environ), table))
