"""Debian's chromium, as tests start it; a profile is new and empty each time."""

import shutil
from pathlib import Path

from playwright.sync_api import ViewportSize

SCREENSHOTS = Path(__file__).parents[3] / "build" / "screenshots"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WINDOW: ViewportSize = {"width": 1500, "height": 950}


def executable() -> str:
    found = shutil.which("chromium")
    assert found, "install Debian's package chromium"
    return found
