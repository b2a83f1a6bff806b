"""A small client of an API server, for the lab and its tests: what ``kubectl --raw`` would do."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lab.cluster.kubeconfig import access
from lab.cluster.model import LabError

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
NOT_FOUND = 404
_OK = range(200, 300)
_PATIENCE = 30.0
_PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the API: status of HTTP, the object, and the texts of its warnings."""

    status: int
    body: Any
    warnings: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether what was asked was done."""
        return self.status in _OK

    @property
    def message(self) -> str:
        """What the API says about it; empty where it is an object."""
        return str(self.body.get("message", "")) if isinstance(self.body, dict) else str(self.body)


@dataclass(frozen=True, slots=True)
class Client:
    """An API server and the credentials of a kubeconfig. Each request has its own connection.

    ``patience`` is how many seconds it may be silent.
    """

    host: str
    port: int
    context: ssl.SSLContext
    patience: float = _PATIENCE
    token: str | None = None

    def request(  # noqa: PLR0913 - HTTP's own parts, by keyword
        self,
        method: str,
        path: str,
        body: Any = None,  # noqa: ANN401 - any JSON
        *,
        content_type: str = JSON,
        user: str | None = None,
        groups: Sequence[str] = (),
    ) -> Answer:
        """Ask; ``user`` and ``groups`` are impersonated.

        Raises:
            OSError: if there is no answer.
        """
        content = None if body is None else json.dumps(body).encode()
        connection = http.client.HTTPSConnection(
            self.host, self.port, timeout=self.patience, context=self.context
        )
        with closing(connection):
            connection.putrequest(method, path)
            if self.token is not None:
                connection.putheader("Authorization", f"Bearer {self.token}")
            for name, value in _headers(content, content_type, user, groups):
                connection.putheader(name, value)
            connection.endheaders(content)
            response = connection.getresponse()
            warnings = response.headers.get_all("Warning") or ()
            return Answer(
                response.status, _body(response.read()), tuple(map(warning_text, warnings))
            )

    def get(self, path: str) -> Any:  # noqa: ANN401 - any JSON
        """An object; ``None`` if it is not there.

        Raises:
            LabError: if the API refuses.
        """
        answer = self.request("GET", path)
        return None if answer.status == NOT_FOUND else _done("GET", path, answer).body

    def create(self, path: str, manifest: Any) -> Answer:  # noqa: ANN401 - any JSON
        """Create an object in a collection, which is the path.

        Raises:
            LabError: if the API refuses.
        """
        return _done("POST", path, self.request("POST", path, manifest))

    def apply(self, path: str, manifest: Any, manager: str = "lab") -> Answer:  # noqa: ANN401
        """Apply an object on the server, and have one's way where others own a field.

        Raises:
            LabError: if the API refuses.
        """
        query = f"{path}?fieldManager={manager}&force=true"
        return _done("PATCH", path, self.request("PATCH", query, manifest, content_type=APPLY))

    def delete(self, path: str) -> None:
        """Delete an object, which may be gone already.

        Raises:
            LabError: if the API refuses.
        """
        answer = self.request("DELETE", path)
        if answer.status != NOT_FOUND:
            _done("DELETE", path, answer)

    def wait(self, path: str, is_so: Callable[[Any], bool], patience: float = _PATIENCE) -> Any:  # noqa: ANN401
        """Ask for an object until it is as wanted, for so many seconds; ``None`` is its absence.

        Raises:
            LabError: if it does not come to that.
        """
        deadline = time.monotonic() + patience
        while not is_so(found := self.get(path)):
            if time.monotonic() > deadline:
                raise LabError(f"{path} is not as it should be after {patience:.0f} s: {found}")
            time.sleep(_PAUSE)
        return found


def client(kubeconfig: Path, patience: float = _PATIENCE) -> Client:
    """The client of a kubeconfig's current context.

    Raises:
        LabError: if there is no kubeconfig, or it says too little.
    """
    found = access(kubeconfig)
    server = urlsplit(found.server)
    port = server.port or http.client.HTTPS_PORT
    return Client(server.hostname or "", port, found.tls, patience, found.token)


def _headers(
    content: bytes | None, content_type: str, user: str | None, groups: Sequence[str]
) -> list[tuple[str, str]]:
    found = [("Accept", JSON)]
    if content is not None:
        found += [("Content-Type", content_type), ("Content-Length", str(len(content)))]
    if user is not None:
        found.append(("Impersonate-User", user))
    return found + [("Impersonate-Group", group) for group in groups]


def _body(content: bytes) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")


def warning_text(warning: str) -> str:
    """The text of a header such as ``299 - "text"`` (RFC 9111, appendix)."""
    return warning.partition('"')[2].removesuffix('"').replace('\\"', '"')


def _done(method: str, path: str, answer: Answer) -> Answer:
    if not answer.ok:
        raise LabError(f"{method} {path}: {answer.status} {answer.message}")
    return answer
