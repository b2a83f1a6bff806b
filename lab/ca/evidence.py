"""Whether everybody has what was published: servers, and sidecars."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from cryptography import x509

from gateway.ca.certificates import fingerprint
from lab.check.model import Place, pid_of
from lab.check.svid import chain_of
from lab.cluster.model import LabError
from zt.inject.containers import ENVOY
from zt.wellknown import BUNDLE_KEY, SIDECAR_BUNDLE

_PAUSE = 2.0
_SHOWN = 4


def until(what: str, lacking: Callable[[], Iterable[str]], patience: float) -> None:
    """Wait until nobody lacks something; who ends meanwhile is looked at again.

    Raises:
        LabError: if somebody does after so many seconds, with their names.
    """
    deadline = time.monotonic() + patience
    while left := _named(lacking):
        if time.monotonic() > deadline:
            more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
            who = f"{', '.join(left[:_SHOWN])}{more}"
            raise LabError(f"after {patience:.0f} s it was not everywhere that {what}: {who}")
        time.sleep(_PAUSE)


def _named(lacking: Callable[[], Iterable[str]]) -> tuple[str, ...]:
    try:
        return tuple(lacking())
    except (LabError, OSError, ValueError) as error:
        return (str(error),)


def trusted_by(place: Place) -> frozenset[str]:
    """The roots in the bundle of a pod's sidecar, by fingerprint.

    Raises:
        LabError: if it does not run.
        OSError: if it ends meanwhile.
    """
    process = pid_of(place, ENVOY)
    return roots_in(Path(f"/proc/{process}/root{SIDECAR_BUNDLE}/{BUNDLE_KEY}").read_bytes())


def roots_in(text: bytes) -> frozenset[str]:
    """Fingerprints of the certificates of a PEM text.

    Raises:
        ValueError: if it has none.
    """
    return frozenset(map(fingerprint, x509.load_pem_x509_certificates(text)))


def above(place: Place) -> tuple[int, ...]:
    """The CAs between the SVID of a pod's sidecar and its root, SPIRE's first, by serial number.

    Raises:
        LabError: if it has none.
    """
    chain = chain_of(pid_of(place, ENVOY), place.name)
    return tuple(certificate.serial_number for certificate in chain[1:])
