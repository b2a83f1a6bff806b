"""The keys that sidecars hold: they are in memory alone, so that is where they are read from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from lab.cluster.client import Client
from lab.cluster.model import LabError
from lab.nodes.pods import pods, process_of
from zt.inject.containers import ENVOY

_WRITABLE = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) rw")
_KEY = re.compile(
    rb"-----BEGIN (?:EC )?PRIVATE KEY-----\n[A-Za-z0-9+/=\n]{40,400}"
    rb"-----END (?:EC )?PRIVATE KEY-----"
)


def svid_keys(api: Client) -> Mapping[str, frozenset[bytes]]:
    """The private keys of the sidecars of a cluster, by ``<namespace>/<pod>``; see ``keys_in``.

    Raises:
        LabError: if the API refuses.
    """
    found = {}
    for pod in pods(api):
        # Pods come and go.
        with suppress(LabError, OSError):
            if ENVOY in pod.containers:
                keys = keys_in(process_of(pod.containers[ENVOY]))
                found[f"{pod.namespace}/{pod.name}"] = frozenset(keys)
    return found


def keys_in(process: int) -> Iterator[bytes]:
    """The elliptic private keys that a process has in its memory as PEM.

    Each as its number, which is in every form that a key is written in.
    """
    for found in set(_found(process)):
        with suppress(ValueError):
            key = load_pem_private_key(found, None)
            if isinstance(key, EllipticCurvePrivateKey):
                yield key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8)


def _found(process: int) -> Iterator[bytes]:
    folder = Path(f"/proc/{process}")
    with (folder / "mem").open("rb", buffering=0) as memory:
        for line in (folder / "maps").read_text().splitlines():
            if region := _WRITABLE.match(line):
                start, end = (int(edge, 16) for edge in region.groups())
                # What the kernel keeps to itself can't be read.
                with suppress(OSError):
                    memory.seek(start)
                    yield from _KEY.findall(memory.read(end - start))
