"""A store that speaks Vault's API: KV version 2, one mount for each project.

It comes in by a token of the pod's service account (auth methods ``kubernetes`` and ``jwt``, which
take the same), renews what it gets, and comes in anew when that has ended. Calls are repeated while
Vault is sealed or does not answer, ever less often, up to a limit.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import hvac
import requests
from hvac import exceptions

from gateway.keys.store import (
    ForbiddenError,
    KeyStoreError,
    MalformedError,
    MissingError,
    SealedError,
    UnreachableError,
    UntrustedError,
    Version,
)
from gateway.once import Once

# What the token file holds then is a token of Vault's own.
_TOKEN: Final = "token"  # noqa: S105 - the name of a method
_SECONDS: Final = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
# A token is renewed when this part of its time is left.
_LEFT: Final = 1 / 3
_LONGEST_REASON: Final = 200
# What Vault puts before a reason that is the only one.
_COUNTED: Final = "1 error occurred: * "
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Access:
    """How to come in: a file with a token, where it is shown, and as what."""

    token_file: Path | None
    mount: str
    role: str
    namespace: str = ""


@dataclass(slots=True)
class Vault:
    """One project (a mount of KV version 2) of a Vault.

    ``authority`` is the one CA that is trusted, as PEM; without it, those of the system.
    """

    address: str
    project: str
    access: Access
    authority: str = field(default="", repr=False)
    patience: float = 60.0
    _client: Any = field(default=None, repr=False)
    _trusted: str = ""
    _ends: float = 0.0
    _renews: float = 0.0

    def read(self, path: str, version: int | None = None) -> Mapping[str, str]:
        """See ``KeyStore``."""
        answer = self._asked(
            f"read {path}",
            lambda kv: kv.read_secret_version(
                path, version, self.project, raise_on_deleted_version=True
            ),
        )
        return _texts(_inside(answer, "data", "data"), f"{self.project}/{path}")

    def write(self, path: str, value: Mapping[str, str]) -> int:
        """See ``KeyStore``."""
        answer = self._asked(
            f"write {path}",
            lambda kv: kv.create_or_update_secret(path, dict(value), mount_point=self.project),
        )
        return int(_inside(answer, "data", "version"))

    def versions(self, path: str) -> tuple[Version, ...]:
        """See ``KeyStore``."""
        found = _inside(self._metadata(path), "versions", default={})
        made = [_version(int(number), item) for number, item in found.items()]
        return tuple(sorted(made, key=lambda item: item.number))

    def disable(self, path: str, version: int) -> None:
        """See ``KeyStore``."""
        self._asked(
            f"disable {path}, version {version},",
            lambda kv: kv.delete_secret_versions(path, [version], self.project),
        )

    def describe(self, path: str, facts: Mapping[str, str]) -> None:
        """See ``KeyStore``."""
        self._asked(
            f"describe {path}",
            lambda kv: kv.update_metadata(
                path, mount_point=self.project, custom_metadata=dict(facts)
            ),
        )

    def description(self, path: str) -> Mapping[str, str]:
        """See ``KeyStore``."""
        found = _inside(self._metadata(path), "custom_metadata", default=None)
        return _texts(found or {}, f"what {self.project}/{path} says of itself")

    def _metadata(self, path: str) -> Mapping[str, Any]:
        try:
            answer = self._asked(
                f"look at {path}", lambda kv: kv.read_secret_metadata(path, self.project)
            )
        except MissingError:
            return {}
        found = _inside(answer, "data")
        return found if isinstance(found, dict) else {}

    def _asked(self, what: str, call: Callable[[Any], _Answer]) -> _Answer:
        """Ask, and ask again while that makes sense; the reason is told whenever it changes."""
        deadline, pause, told = time.monotonic() + self.patience, _FIRST_PAUSE, Once()
        while True:
            try:
                return self._once(what, call)
            except UntrustedError:
                raise
            except (SealedError, UnreachableError) as error:
                if time.monotonic() + pause > deadline:
                    raise
                if told.note(str(error)):
                    sys.stderr.write(f"{error}; trying again\n")
            # Not all of those that wait for it at the same moment.
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _once(self, what: str, call: Callable[[Any], _Answer]) -> _Answer:
        trouble = f"{self.address} does not {what} in {self.project}"
        fresh = self._come_in(trouble)
        try:
            return _translated(trouble, lambda: call(self._client.secrets.kv.v2))
        except ForbiddenError as error:
            # The token may have been revoked; one that is new is not forbidden for its age.
            if fresh:
                raise self._forbidden(error) from None
            self._client = None
            return self._once(what, call)

    def _come_in(self, trouble: str) -> bool:
        """Have a token that is good for a while; whether it is a new one."""
        now = time.monotonic()
        if self._client is not None and now < self._renews:
            return False
        if self._client is not None and now < self._ends and self._renewed():
            return False
        self._client = _translated(trouble, self._connected)
        token = _read_token(self.access.token_file)
        if self.access.mount == _TOKEN:
            self._client.token = token
            self._good_for(0.0)
            return True
        given = {"role": self.access.role, "jwt": token}
        way = f"/v1/auth/{self.access.mount}/login"
        try:
            answer = _translated(trouble, lambda: self._client.login(way, json=given))
        except (ForbiddenError, MalformedError, MissingError) as error:
            self._client = None
            raise self._forbidden(error) from None
        except KeyStoreError:
            self._client = None
            raise
        self._good_for(float(_inside(answer, "auth", "lease_duration")))
        return True

    def _forbidden(self, error: KeyStoreError) -> ForbiddenError:
        """Who asks may not; said with the role, which is where an administrator looks."""
        role = "" if self.access.mount == _TOKEN else f" (role {self.access.role})"
        return ForbiddenError(f"{error}{role}")

    def _renewed(self) -> bool:
        try:
            answer = self._client.auth.token.renew_self()
            self._good_for(float(_inside(answer, "auth", "lease_duration")))
        except (KeyStoreError, exceptions.VaultError, requests.RequestException):
            return False
        return True

    def _good_for(self, seconds: float) -> None:
        """Without an end, as Vault says it with a zero, it is used until it is refused."""
        now, lasts = time.monotonic(), seconds or float("inf")
        self._ends, self._renews = now + lasts, now + lasts * (1 - _LEFT)

    def _connected(self) -> Any:  # noqa: ANN401 - hvac tells no types
        if self.authority and not self._trusted:
            self._trusted = _file_of(self.authority)
        return hvac.Client(
            self.address,
            verify=self._trusted or True,
            namespace=self.access.namespace or None,
            timeout=_SECONDS,
        )


@cache
def _file_of(text: str) -> str:
    """A path for a text that lies in memory alone; it is there as long as this process."""
    handle = os.memfd_create("authority")
    os.write(handle, text.encode())
    return f"/proc/self/fd/{handle}"


def _read_token(file: Path | None) -> str:
    if file is None:
        raise ForbiddenError("no token was given to come in with")
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ForbiddenError(f"the token {file} can't be read: {error.strerror}") from None


def _translated(trouble: str, call: Callable[[], _Answer]) -> _Answer:
    """Ask Vault, and say what went wrong in the words of a key store."""
    try:
        return call()
    except requests.exceptions.SSLError:
        raise UntrustedError(f"{trouble}: its certificate is of no trusted CA") from None
    except requests.RequestException as error:
        raise UnreachableError(f"{trouble}: {_plain(error)}") from None
    except exceptions.VaultDown as error:
        sealed = "sealed" in str(error)
        kind = SealedError if sealed else UnreachableError
        raise kind(f"{trouble}: {'it is sealed' if sealed else _reason(error)}") from None
    except exceptions.Forbidden as error:
        raise ForbiddenError(f"{trouble}: {_reason(error)}") from None
    except exceptions.InvalidPath:
        raise MissingError(f"{trouble}: there is none") from None
    except (exceptions.InvalidRequest, exceptions.ParamValidationError) as error:
        raise MalformedError(f"{trouble}: {_reason(error)}") from None
    except exceptions.VaultError as error:
        raise UnreachableError(f"{trouble}: {_reason(error)}") from None
    except ValueError:
        raise MalformedError(f"{trouble}: its answer is not JSON") from None


def _reason(error: exceptions.VaultError) -> str:
    said = "; ".join(error.errors or ()) if isinstance(error.errors, list) else str(error.errors)
    plain = " ".join((said or type(error).__name__).split())
    return plain.removeprefix(_COUNTED)[:_LONGEST_REASON]


def _plain(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return f"no answer in {_SECONDS} s"
    return "no connection"


def _inside(answer: Any, *names: str, default: Any = ...) -> Any:  # noqa: ANN401 - JSON
    for name in names:
        if not isinstance(answer, dict) or name not in answer:
            if default is not ...:
                return default
            raise MalformedError(f"an answer of KMS has no {'.'.join(names)}")
        answer = answer[name]
    return answer


def _texts(value: object, whose: str) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise MalformedError(f"{whose} is no mapping of names to texts")
    return value


def _version(number: int, item: Mapping[str, Any]) -> Version:
    created = datetime.fromisoformat(str(item["created_time"]))
    return Version(number, created, enabled=not item["deletion_time"] and not item["destroyed"])
