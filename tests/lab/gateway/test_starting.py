"""The init step of a gateway while a real Vault fails it says what the lab waits for."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from lab.cluster.model import Layout
from lab.tunnel.sealed import Failure, failures
from lab.tunnel.site import Tunnels
from lab.tunnel.starting import Log
from tests.lab.gateway.conftest import CLUSTER, Site

pytestmark = pytest.mark.timeout(1200)

BOOK = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"


@pytest.fixture
def memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def known(site: Site) -> dict[str, Failure]:
    tunnels = cast("Tunnels", SimpleNamespace(lab=SimpleNamespace(layout=Layout(site.folder))))
    return {failure.what: failure for failure in failures(tunnels, site.kms, CLUSTER)}


def begin(site: Site, into: Path, log: Log) -> subprocess.Popen[bytes]:
    """As the kubelet does, one run after the other."""
    number = max(log.runs, default=-1) + 1
    command = [
        *(sys.executable, "-m", "gateway.fetch", "--project=zt-wireguard", f"--path={CLUSTER}"),
        *(f"--address={site.kms.url}", f"--token-file={site.token()}", f"--auth=jwt-{CLUSTER}"),
        *(f"--authority={site.kms.authority.read_text()}", "--field=book", "--optional"),
        f"--into={into}",
    ]
    with (log.folder / f"{number}.said").open("wb") as file:
        process = subprocess.Popen(command, stderr=file)
    look(log)
    return process


def look(log: Log) -> None:
    """See what was said until now, as the container's runtime writes it."""
    for said in log.folder.glob("*.said"):
        lines = said.read_text().splitlines(keepends=True)
        text = "".join(f"2026-11-30T11:00:00.5Z stderr F {line}" for line in lines)
        said.with_suffix(".log").write_text(text)
    log.look()


def await_said(log: Log, failure: Failure, runs: int) -> None:
    deadline = time.monotonic() + 20
    while log.saying(failure.reasons) < runs:
        assert time.monotonic() < deadline, log.runs
        time.sleep(0.05)
        look(log)


@pytest.mark.parametrize("what", ["sealed", "forbids", "lacks a field"])
def test_each_run_says_why_and_the_key_comes_by_itself(
    what: str, site: Site, path: str, tmp_path: Path, memory: Path
) -> None:
    failure, log = known(site)[what], Log(tmp_path)
    site.store().write(path, {"book": BOOK, "publicKey": "p"})
    with failure.begin():
        for run in range(1, failure.runs):
            # Another run comes only after one that has ended.
            assert begin(site, memory, log).wait(20) == 1
            await_said(log, failure, run)
        last = begin(site, memory, log)
        await_said(log, failure, failure.runs)
    if failure.runs > 1:
        assert last.wait(20) == 1
        last = begin(site, memory, log)
    assert last.wait(20) == 0
    look(log)
    assert log.lacking(failure.reasons) == []
    assert log.is_done
    assert (memory / "book").read_text() == BOOK
    assert all(BOOK not in text for text in log.runs.values())


def test_a_vault_that_is_stopped_is_waited_for(site: Site, tmp_path: Path, memory: Path) -> None:
    failure, log = known(site)["stopped"], Log(tmp_path)
    nowhere = replace(site, kms=replace(site.kms, port=9))
    process = begin(nowhere, memory, log)
    await_said(log, failure, 1)
    assert process.poll() is None
    process.kill()
    process.wait()
