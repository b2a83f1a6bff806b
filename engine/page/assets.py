"""The page's style sheet, script and icon, and the headers that hold it to them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

_TYPES = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}

# For the page and its assets. Nothing inline runs, nothing comes from elsewhere, nothing frames it.
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
            "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ),
        "Cache-Control": "no-cache",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
)


@cache
def assets() -> Mapping[str, tuple[str, bytes]]:
    """Content type and content by name, to be served as ``/assets/<name>`` with ``HEADERS``."""
    folder = files("engine.page") / "static"
    return {name: (kind, (folder / name).read_bytes()) for name, kind in _TYPES.items()}


@cache
def address(name: str) -> str:
    """Where the page finds an asset: another address for another content."""
    digest = hashlib.sha256(assets()[name][1]).hexdigest()[:12]
    return f"assets/{name}?{digest}"
