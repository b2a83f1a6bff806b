"""A small client of the Kubernetes API, with the credentials that a pod has of its own.

Token and CA are read again for each connection: both rotate while a pod runs.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

Json = dict[str, Any]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
GONE, CONFLICT, NOT_FOUND = 410, 409, 404

_JSON = "application/json"
# JSON is YAML.
_APPLY = "application/apply-patch+yaml"
_JSON_PATCH = "application/json-patch+json"
_OK = range(200, 300)
_PATIENCE = 10.0
# An object has a megabyte and a half in etcd at most, and grows a little as JSON.
_MAX_LINE = 8 << 20
_MAX_BODY = 64 << 20
_CHUNK = 1 << 16
# Seconds until it is asked whether the other side is there, between two such questions, and how
# many of them.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 5, socket.TCP_KEEPINTVL: 2, socket.TCP_KEEPCNT: 3}


class KubernetesError(Exception):
    """The API refused, or could not be reached; ``status`` is HTTP's, or 0 without an answer."""

    def __init__(self, status: int, message: str) -> None:
        """Keep the status; the message is a sentence."""
        self.status = status
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """An API server. ``folder`` holds ``token`` and ``ca.crt``."""

    host: str
    port: int
    folder: Path = SERVICE_ACCOUNT

    def get(self, path: str, **query: str | int) -> Json:
        """Read an object, or a list.

        Raises:
            KubernetesError: if that can't be done.
        """
        return self._call("GET", _with_query(path, query))

    def replace(self, path: str, content: Json) -> Json:
        """Replace an object; with its ``resourceVersion``, only if it still has that.

        Raises:
            KubernetesError: if that can't be done; status 409 if it has another.
        """
        return self._call("PUT", path, json.dumps(content).encode())

    def apply(self, path: str, content: Json, manager: str) -> Json:
        """Have these fields as they are here, which are ``manager``'s from then on (apply).

        An object that is not there is created. What another manager has otherwise stays so.

        Raises:
            KubernetesError: if that can't be done; status 409 if another manager has it otherwise.
        """
        asked = _with_query(path, {"fieldManager": manager})
        return self._call("PATCH", asked, json.dumps(content).encode(), _APPLY)

    def patch(self, path: str, operations: Sequence[Json], manager: str) -> Json:
        """Change parts of an object by a JSON patch (RFC 6902), in the name of a field manager.

        Raises:
            KubernetesError: if that can't be done; status 422 if a ``test`` in it failed.
        """
        content = json.dumps(operations).encode()
        path = _with_query(path, {"fieldManager": manager})
        return self._call("PATCH", path, content, _JSON_PATCH)

    def watch(
        self, path: str, seconds: int, on_open: Callable[[], None], **query: str | int
    ) -> Iterator[Json]:
        """Events, as they come, for so many seconds at most; ``on_open`` is called before any.

        Raises:
            KubernetesError: if the stream breaks, or an event is none.
        """
        asked = {"watch": 1, "timeoutSeconds": seconds, **query}
        # The server ends the stream by itself; one that says nothing for longer is dead.
        with closing(self._connection(seconds + _PATIENCE)) as connection:
            try:
                connection.connect()
                _watch_over(connection.sock)
                response = self._sent(connection, "GET", _with_query(path, asked), None)
                on_open()
                for line in _lines(response):
                    yield _object(line)
            except (OSError, http.client.HTTPException) as error:
                raise _unreachable(error) from None

    def _call(self, method: str, path: str, body: bytes | None = None, media: str = _JSON) -> Json:
        with closing(self._connection(_PATIENCE)) as connection:
            try:
                response = self._sent(connection, method, path, body, media)
                return _object(_whole(response))
            except (OSError, http.client.HTTPException) as error:
                raise _unreachable(error) from None

    def _connection(self, timeout: float) -> http.client.HTTPSConnection:
        try:
            context = ssl.create_default_context(cafile=self.folder / "ca.crt")
            # Clusters' own CAs often lack what RFC 5280 asks of them; Python 3.13 would mind.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        except (OSError, ssl.SSLError) as error:
            raise KubernetesError(0, f"no CA of the Kubernetes API: {error}") from None
        return http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=context)

    def _sent(
        self,
        connection: http.client.HTTPSConnection,
        method: str,
        path: str,
        body: bytes | None,
        media: str = _JSON,
    ) -> http.client.HTTPResponse:
        headers = {
            "Accept": _JSON,
            "Authorization": f"Bearer {self._token()}",
            "User-Agent": "hanzo-zt",
        }
        if body is not None:
            headers["Content-Type"] = media
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        if response.status not in _OK:
            raise KubernetesError(response.status, _reason(response))
        return response

    def _token(self) -> str:
        try:
            return (self.folder / "token").read_text(encoding="ascii").strip()
        except (OSError, UnicodeError) as error:
            raise KubernetesError(0, f"no token for the Kubernetes API: {error}") from None


def _watch_over(connection: socket.socket) -> None:
    """Have a stream on which nothing may come for long break when the other side is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


def in_cluster(environment: Mapping[str, str]) -> Kubernetes:
    """The API server of the cluster that this pod runs in.

    Raises:
        KubernetesError: if it runs in none.
    """
    host = environment.get("KUBERNETES_SERVICE_HOST")
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not port.isdigit():
        raise KubernetesError(0, "KUBERNETES_SERVICE_HOST is not set: this is no pod")
    return Kubernetes(host, int(port))


def config_map_path(namespace: str, name: str) -> str:
    """Where a ConfigMap is."""
    return f"/api/v1/namespaces/{namespace}/configmaps/{name}"


def _with_query(path: str, query: Mapping[str, str | int]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _whole(response: http.client.HTTPResponse) -> bytes:
    body = response.read(_MAX_BODY + 1)
    if len(body) > _MAX_BODY:
        raise KubernetesError(response.status, f"an answer of more than {_MAX_BODY} bytes")
    return body


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Lines as they arrive; the last one counts only if it is whole."""
    rest = b""
    while chunk := response.read1(_CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from filter(None, lines)
        if len(rest) > _MAX_LINE:
            raise KubernetesError(response.status, f"an event of more than {_MAX_LINE} bytes")


def _object(text: bytes) -> Json:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise KubernetesError(0, "the Kubernetes API answered something that is no JSON object")
    return found


def _reason(response: http.client.HTTPResponse) -> str:
    """What a Status says, or the status line."""
    try:
        message = json.loads(response.read(_CHUNK))["message"]
    except (ValueError, KeyError, TypeError, OSError, http.client.HTTPException):
        message = response.reason
    return f"the Kubernetes API answered {response.status}: {message}"


def _unreachable(error: Exception) -> KubernetesError:
    return KubernetesError(0, f"the Kubernetes API cannot be reached: {error}")
