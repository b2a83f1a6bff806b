"""Pods of a real API server in the table that the evaluator reads, whatever breaks meanwhile."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.kubernetes import pods
from engine.kubernetes.client import GONE, KubernetesError
from engine.kubernetes.pods import PODS, Table, Watch, follow
from engine.locate import parse_locations
from tests.lab.engine_cluster.site import CORE, Site, eventually

WEB, DB = "spiffe://hanzo.ai/east/shop/web", "spiffe://hanzo.ai/east/shop/db"

# A control plane and what asks it share a machine with whatever else is tested.
pytestmark = pytest.mark.timeout(400)


class Ended(BaseException):
    """Ends a program that runs for ever."""


@contextmanager
def following(site: Site, path: Path) -> Iterator[list[float]]:
    """The program, in a thread; yields the pauses that it made."""
    pauses: list[float] = []
    ended = threading.Event()

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if ended.wait(min(seconds, 0.5)):
            raise Ended

    def run() -> None:
        try:
            follow(Watch(site.kubernetes, Table("hanzo.ai", "east", path)), pause)
        except Ended:
            return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield pauses
    finally:
        ended.set()
        thread.join(10)
        assert not thread.is_alive()


def held(path: Path) -> dict[str, tuple[str, str]]:
    """Pods and identities by address, as the evaluator reads them."""
    try:
        found = parse_locations(path.read_text())
    except FileNotFoundError:
        return {}
    return {
        str(address): (place.pod, str(place.spiffe)) for address, place in found.by_address.items()
    }


@pytest.fixture(autouse=True)
def _short_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    # So that a watch ends, and is taken up again, several times in a test.
    monkeypatch.setattr(pods, "_WATCH_SECONDS", 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "locations.json"


@pytest.fixture
def unique() -> str:
    return uuid.uuid4().hex[:6]


def test_pods_come_change_and_go(site: Site, path: Path, unique: str) -> None:
    web, db = f"web-{unique}", f"db-{unique}"
    assert site.pod(web, "10.0.1.1").ok
    with following(site, path):
        eventually(lambda: held(path).get("10.0.1.1") == (web, WEB))
        assert site.pod(db, "10.0.1.2", "db").ok
        eventually(lambda: held(path).get("10.0.1.2") == (db, DB))
        site.gone(web)
        eventually(lambda: "10.0.1.1" not in held(path))
        # Its address goes to another pod, as addresses do.
        assert site.pod(f"{web}-2", "10.0.1.1", "db").ok
        eventually(lambda: held(path).get("10.0.1.1") == (f"{web}-2", DB))
        site.status(db, phase="Succeeded")
        eventually(lambda: "10.0.1.2" not in held(path))
        assert site.pod(f"host-{unique}", "192.0.2.10", hostNetwork=True).ok
        assert site.pod(f"last-{unique}", "10.0.1.3").ok
        eventually(lambda: "10.0.1.3" in held(path))
        assert "192.0.2.10" not in held(path)


def test_nothing_is_missed_while_the_api_server_restarts(
    site: Site, path: Path, unique: str
) -> None:
    before, after = f"web-{unique}", f"db-{unique}"
    assert site.pod(before, "10.0.2.1").ok
    with following(site, path):
        eventually(lambda: "10.0.2.1" in held(path))
        command = site.kill_api_server()
        assert held(path)["10.0.2.1"] == (before, WEB), "the last that was known stays"
        site.start_api_server(command)
        site.gone(before)
        assert site.pod(after, "10.0.2.2", "db").ok
        eventually(lambda: held(path).get("10.0.2.2") == (after, DB))
        eventually(lambda: "10.0.2.1" not in held(path))


def test_a_version_that_is_too_old_is_gone_and_the_pods_are_listed_anew(
    site: Site, path: Path, unique: str
) -> None:
    watch = Watch(site.kubernetes, Table("hanzo.ai", "east", path))
    watch._list()
    watch._version = "1"
    with pytest.raises(KubernetesError) as caught:
        watch.step()
    assert caught.value.status == GONE
    assert site.pod(f"web-{unique}", "10.0.3.1").ok
    watch.step()
    assert held(path)["10.0.3.1"] == (f"web-{unique}", WEB)


def test_a_token_that_was_renewed_is_used_from_then_on(site: Site, path: Path, unique: str) -> None:
    secret = {"metadata": {"name": f"bound-{unique}"}}
    made = site.api.create(f"{CORE}/secrets", secret).body["metadata"]
    reference = {"apiVersion": "v1", "kind": "Secret", "name": made["name"], "uid": made["uid"]}
    site.token(bound=reference)
    first = (site.account / "token").read_text()
    with following(site, path):
        eventually(path.exists)
        site.token()
        site.api.delete(f"{CORE}/secrets/{made['name']}")
        assert site.pod(f"web-{unique}", "10.0.4.1").ok
        eventually(lambda: "10.0.4.1" in held(path))
    (site.account / "token").write_text(first)
    eventually(lambda: _is_refused(site))
    site.token()
    assert not _is_refused(site)


def _is_refused(site: Site) -> bool:
    """Whether the token in use is no longer one; the API server remembers it for ten seconds."""
    try:
        site.kubernetes.get(PODS, limit=1)
    except KubernetesError as error:
        return error.status == 401
    return False


def test_the_service_account_may_do_no_more_than_it_needs(site: Site) -> None:
    for path in (f"{CORE}/secrets", f"{CORE}/configmaps", "/api/v1/nodes"):
        with pytest.raises(KubernetesError) as caught:
            site.kubernetes.get(path)
        assert caught.value.status == 403
