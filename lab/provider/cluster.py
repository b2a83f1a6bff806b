"""An API server: which kinds it knows, what it answers, and what it warns of."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from lab.cluster.client import NOT_FOUND, warning_text
from lab.provider.values import Json

_APPLY = "application/apply-patch+yaml"
_BUSY_RETRIES, _LONGEST_WAIT = 10, 5.0
_JSON_PATCH = "application/json-patch+json"


class Refused(Exception):  # noqa: N818 - what happened, and read as such
    """The API server said no; ``status`` is HTTP's, or 0 without an answer."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        """Keep status and reason; the message is the server's sentence."""
        self.status = status
        self.reason = reason
        super().__init__(message)


class UnknownKind(Refused):
    """No such kind here: perhaps its definition is yet to come."""

    def __init__(self, api_version: str, kind: str) -> None:
        """Say which."""
        super().__init__(NOT_FOUND, "NotFound", f"the API server knows no {api_version} {kind}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where objects of a kind are: the path of their API, their plural, and who has them."""

    base: str
    plural: str
    namespaced: bool

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """The path of an object, or of all in a namespace."""
        inside = f"/namespaces/{namespace or 'default'}" if self.namespaced else ""
        return f"{self.base}{inside}/{self.plural}" + (f"/{name}" if name else "")


@dataclass(frozen=True, slots=True)
class Warned:
    """What the API server warned of, and for which request."""

    path: str
    text: str


def _unheard(_warning: Warned) -> None:
    pass


@dataclass
class Cluster:
    """One API server. With ``strict`` what it warns of is refused; ``warn`` hears all warnings."""

    http: httpx.Client
    strict: bool = False
    warn: Callable[[Warned], None] = _unheard
    _places: dict[tuple[str, str], Place] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, path: str) -> Json:
        """Read an object, or a list.

        Raises:
            Refused: if that can't be done.
        """
        return self._call("GET", path)

    def create(self, path: str, manifest: Json, manager: str, *, dry: bool) -> Json:
        """Create an object; with ``dry`` all but.

        Raises:
            Refused: by ``AlreadyExists`` if there is one of that name.
        """
        return self._write("POST", path, {"fieldManager": manager}, manifest, dry=dry)

    def replace(self, path: str, manifest: Json, manager: str, *, dry: bool) -> Json:
        """Replace an object; its ``resourceVersion`` has to be the one it still has.

        Raises:
            Refused: if that can't be done.
        """
        return self._write("PUT", path, {"fieldManager": manager}, manifest, dry=dry)

    def apply(self, path: str, manifest: Json, manager: str, *, force: bool, dry: bool) -> Json:
        """Apply fields on the server's side, as this manager's.

        Raises:
            Refused: with status 409 if a field is another manager's, unless by ``force``.
        """
        query = {"fieldManager": manager, "force": str(force).lower()}
        return self._write("PATCH", path, query, manifest, _APPLY, dry=dry)

    def patch(self, path: str, operations: list[Json]) -> Json:
        """Change an object by a JSON patch.

        Raises:
            Refused: if that can't be done.
        """
        return self._call("PATCH", path, {}, operations, _JSON_PATCH)

    def delete(self, path: str, propagation: str) -> Json:
        """Begin to delete an object.

        Raises:
            Refused: if that can't be done.
        """
        return self._call("DELETE", path, {}, {"propagationPolicy": propagation})

    def place(self, api_version: str, kind: str, *, fresh: bool = False) -> Place:
        """Where objects of a kind are; ``fresh`` asks again.

        Raises:
            UnknownKind: if the API server has none such.
        """
        key = (api_version, kind)
        with self._lock:
            if fresh or key not in self._places:
                self._places |= self._discovered(api_version)
            if key not in self._places:
                raise UnknownKind(api_version, kind)
            return self._places[key]

    def _discovered(self, api_version: str) -> dict[tuple[str, str], Place]:
        base = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        try:
            listed = self.get(base).get("resources", ())
        except Refused as error:
            if error.status == NOT_FOUND:
                return {}
            raise
        return {
            (api_version, item["kind"]): Place(base, item["name"], item["namespaced"])
            for item in listed
            if "/" not in item["name"]  # subresources
        }

    def _write(  # noqa: PLR0913 - as HTTP has it
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Json,
        content: str = "application/json",
        *,
        dry: bool,
    ) -> Json:
        asked = {"fieldValidation": "Warn", **query}
        trial = {**asked, "dryRun": "All"}
        if dry:
            return self._call(method, path, trial, body, content)
        if self.strict:  # a warning comes too late when the object is made
            self._call(method, path, trial, body, content)
        return self._call(method, path, asked, body, content)

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,  # noqa: ANN401 - any JSON
        content: str = "application/json",
    ) -> Json:
        request = self.http.build_request(
            method, path, params=query, json=body, headers={"Content-Type": content}
        )
        try:
            answer = patiently(self.http, request)
        except httpx.HTTPError as error:
            raise Refused(0, "Unreachable", f"the API server gave no answer: {error}") from None
        if not answer.is_success:
            raise _refusal(answer)
        self._heed(path, answer)
        return dict(answer.json())

    def _heed(self, path: str, answer: httpx.Response) -> None:
        texts = list(map(warning_text, answer.headers.get_list("warning")))
        for text in texts:
            self.warn(Warned(path, text))
        if texts and self.strict:
            raise Refused(answer.status_code, "Warning", "; ".join(texts))


def patiently(http: httpx.Client, request: httpx.Request) -> httpx.Response:
    """Ask again while the API server asks for time, as it does when kinds come and go.

    Raises:
        httpx.HTTPError: if there is no answer.
    """
    for _ in range(_BUSY_RETRIES):
        answer = http.send(request)
        if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
            return answer
        time.sleep(min(_LONGEST_WAIT, float(answer.headers.get("Retry-After", 1))))
    return http.send(request)


def _refusal(answer: httpx.Response) -> Refused:
    """What a Status says; of an API that is not there the server speaks in plain text."""
    try:
        status = answer.json()
        return Refused(answer.status_code, status.get("reason", ""), status["message"])
    except (ValueError, KeyError, AttributeError):
        return Refused(answer.status_code, "", answer.text.strip())
