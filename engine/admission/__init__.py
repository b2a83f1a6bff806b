"""The admission webhook: which sidecar a new pod gets.

The API server sends an ``AdmissionReview`` (``admission.k8s.io/v1``) for each pod that is created
in a namespace with injection, and takes a JSON patch. Nothing is written or asked meanwhile, so a
dry run is answered like any other.
"""

from __future__ import annotations

from engine.admission.handler import handler

__all__ = ["handler"]
