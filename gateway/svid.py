"""Who a gateway is: its X.509-SVID, and the authorities by which it knows others.

The SPIRE agent gives both, and the private key stays in this process's memory. The agent sends an
SVID at once, and another whenever it has renewed it; while it is away the last one stays in use,
until it ends by itself.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate
from spiffe import WorkloadApiClient, X509Bundle, X509Svid
from spiffe.errors import PySpiffeError
from spiffe.workloadapi.x509_context import X509Context

from gateway.once import Once

# Files of a folder, called as SPIRE's own helper calls them.
SVID, KEY, BUNDLE = "svid.pem", "svid_key.pem", "bundle.pem"
# What goes with a key of each curve that SVIDs have here.
HASHES: dict[str, hashes.SHA256 | hashes.SHA384] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
}
# A registration is seen by the agent some seconds after it was made.
_SHORTEST, _LONGEST = 0.2, 5.0
# A call that lived so long is made anew, in case its agent hangs: seconds.
_ASK_AGAIN = 600.0

_log = logging.getLogger(__name__)


class SvidError(Exception):
    """There is no SVID to use; the message is a sentence without a secret."""


@dataclass(frozen=True)
class Identity:
    """An X.509-SVID; ``authorities`` are the trust bundle of its trust domain."""

    spiffe: str
    chain: tuple[Certificate, ...]
    key: EllipticCurvePrivateKey = field(repr=False, compare=False)
    authorities: frozenset[Certificate] = field(repr=False)


# What it is now; ``None`` while there is none.
Source = Callable[[], Identity | None]


def source_of(address: str) -> Source:
    """``unix:///<socket>`` follows the SPIRE agent there, ``file:///<folder>`` reads three files.

    Raises:
        SvidError: if it is neither.
    """
    found = urlsplit(address)
    if found.netloc or not found.path:
        raise SvidError(
            f"{address} is no place of an SVID: it should be unix:///... or file:///..."
        )
    match found.scheme:
        case "unix":
            return Agent(Path(found.path)).start()
        case "file":
            return Folder(Path(found.path))
    raise SvidError(f"{address} is no place of an SVID: it should be unix:///... or file:///...")


class _Said(Once):
    """Says what is wrong once, and that it is right again."""

    def say(self, problem: str | None, spiffe: str = "") -> None:
        if not self.note(problem):
            return
        if problem is None:
            _log.info("the gateway has an SVID of %s", spiffe)
        else:
            _log.warning("no SVID comes: %s", problem)


@dataclass
class Folder:
    """A folder with an SVID, for where no agent is: read whenever it is asked for."""

    folder: Path
    _said: _Said = field(default_factory=_Said)

    def __call__(self) -> Identity | None:
        """As the files are now."""
        try:
            found = self._read()
        except (PySpiffeError, SvidError) as error:
            self._said.say(f"{self.folder} has none: {error}")
            return None
        self._said.say(None, found.spiffe)
        return found

    def _read(self) -> Identity:
        svid = X509Svid.load(self.folder / SVID, self.folder / KEY, Encoding.PEM)
        domain = svid.spiffe_id.trust_domain
        return _identity(svid, X509Bundle.load(domain, self.folder / BUNDLE, Encoding.PEM))


@dataclass
class Agent:
    """Follows the SPIRE agent of the node at its socket, in a thread of its own."""

    socket: Path
    _said: _Said = field(default_factory=_Said)
    _given: Identity | None = field(default=None, repr=False)

    def __call__(self) -> Identity | None:
        """What it gave last."""
        return self._given

    def start(self) -> Agent:
        """Begin."""
        threading.Thread(target=self.follow, name="follows the agent", daemon=True).start()
        return self

    def follow(self, sleep: Callable[[float], None] = time.sleep) -> NoReturn:
        """Take what it gives, for ever."""
        pause = _SHORTEST
        while True:
            before = self._given
            self._call()
            pause = min(2 * pause, _LONGEST) if self._given is before else _SHORTEST
            sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret

    def _call(self) -> None:
        """One call, for as long as it lasts. Its end is the only error that the library sees to.

        With its own retries the library ends for good after 1,024 of them, in an overflow.
        """
        ended = threading.Event()

        def end(error: Exception) -> None:
            self._said.say(f"the agent at {self.socket} gives none: {error}")
            ended.set()

        try:
            client = WorkloadApiClient(f"unix:{self.socket}")
        except PySpiffeError as error:
            end(error)
            return
        with client:
            call = client.stream_x509_contexts(self._take, end, retry_connect=False)
            ended.wait(_ASK_AGAIN)
            call.cancel()

    def _take(self, context: X509Context) -> None:
        """The first SVID is the default (SPIFFE, Workload API, 5.3)."""
        svid = context.default_svid
        domain = svid.spiffe_id.trust_domain
        found = _identity(svid, context.x509_bundle_set.get_bundle_for_trust_domain(domain))
        self._given = found
        self._said.say(None, found.spiffe)


def _identity(svid: X509Svid, bundle: X509Bundle | None) -> Identity:
    """Raises SvidError if nobody could believe it."""
    key, authorities = svid.private_key, bundle.x509_authorities if bundle else set()
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in HASHES:
        raise SvidError(f"the key of {svid.spiffe_id} is of no curve that is used here")
    if key.public_key() != svid.leaf.public_key():
        raise SvidError(f"the key is not that of the certificate of {svid.spiffe_id}")
    if not authorities:
        raise SvidError(f"no trust bundle came with {svid.spiffe_id}")
    return Identity(str(svid.spiffe_id), tuple(svid.cert_chain), key, frozenset(authorities))
