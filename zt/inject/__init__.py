"""Sidecar injection: what a pod of a declared service needs, put into it.

Pure: a pod goes in, as the API server shows it; out comes the pod as it should be, or a sentence
that says why there is none. The evaluator's webhook does this at admission; the stack does it for
the pods of the mesh itself, which no webhook may wait for.
"""

from __future__ import annotations

from zt.inject.inject import Injected, Refused, inject, with_sidecar
from zt.inject.needs import Alias, Images, Injection, Needs, injection_of

__all__ = [
    "Alias",
    "Images",
    "Injected",
    "Injection",
    "Needs",
    "Refused",
    "inject",
    "injection_of",
    "with_sidecar",
]
