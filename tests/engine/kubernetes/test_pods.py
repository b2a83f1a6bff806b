"""Pods as a cluster has them, in the table that the evaluator reads, whatever breaks meanwhile."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.kubernetes import pods
from engine.kubernetes.client import Kubernetes, KubernetesError
from engine.kubernetes.pods import Table, Watch, follow
from engine.locate import live_sign, parse_locations
from tests.engine.kubernetes.apiserver import Cluster, Write, event, pod, serving, status
from tests.waiting import eventually, running

Json = dict[str, Any]
SPIFFE = "spiffe://hanzo.ai/east/shop/"


def table(path: Path) -> Table:
    return Table("hanzo.ai", "east", path / "locations.json")


def names(path: Path) -> dict[str, str]:
    """Pods by address, as the evaluator reads them."""
    try:
        found = parse_locations((path / "locations.json").read_text())
    except FileNotFoundError:
        return {}
    return {str(address): place.pod for address, place in found.by_address.items()}


def following(api: Kubernetes, path: Path) -> AbstractContextManager[list[float]]:
    """The program, in a thread; yields the pauses that it made."""
    return running(partial(follow, Watch(api, table(path), debounce=0.05)))


def test_a_pod_is_known_by_its_addresses(tmp_path: Path) -> None:
    held = table(tmp_path)
    both = {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}
    held.replace([pod("web-1", "10.0.0.1", status=both), pod("db-1", None)])
    held.write()
    assert names(tmp_path) == {"10.0.0.1": "web-1", "fd00::1": "web-1"}
    content = json.loads(held.path.read_text())
    assert content["10.0.0.1"] == {"pod": "web-1", "node": "n1", "spiffe": SPIFFE + "web"}


@pytest.mark.parametrize(
    "gone",
    [
        {"spec": {"hostNetwork": True}},
        {"status": {"phase": "Succeeded"}},
        {"status": {"phase": "Failed"}},
        {"status": {"podIP": None, "podIPs": []}},
    ],
)
def test_who_has_no_address_of_its_own_is_left_out(tmp_path: Path, gone: Json) -> None:
    held = table(tmp_path)
    held.put(pod("web-1", "10.0.0.1"))
    held.put(pod("web-1", "10.0.0.1", **gone))
    assert held.by_address() == {}


def test_an_address_is_that_of_the_pod_that_stays(tmp_path: Path) -> None:
    old = {"deletionTimestamp": "2026-11-24T09:00:00Z", "creationTimestamp": "2026-11-24T08:59:00Z"}
    held = table(tmp_path)
    held.replace([pod("web-2", "10.0.0.1"), pod("web-1", "10.0.0.1", metadata=old)])
    assert held.by_address()["10.0.0.1"]["pod"] == "web-2"
    newer = {"creationTimestamp": "2026-11-24T10:00:00Z"}
    held.put(pod("web-0", "10.0.0.1", metadata=newer))
    assert held.by_address()["10.0.0.1"]["pod"] == "web-0"


_changes = st.lists(
    st.tuples(
        st.sampled_from(["ADDED", "MODIFIED", "DELETED"]),
        st.sampled_from(["web-1", "web-2", "db-1"]),
        st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3", None]),
    ),
    max_size=20,
)


@given(_changes)
def test_what_is_watched_is_what_a_list_would_say(
    changes: list[tuple[str, str, str | None]],
) -> None:
    watched, listed = (Table("hanzo.ai", "east", Path("/nowhere")) for _ in range(2))
    present: dict[str, Json] = {}
    for kind, name, address in changes:
        item = pod(name, address)
        if kind == "DELETED":
            present.pop(name, None)
            watched.forget(item)
        else:
            present[name] = item
            watched.put(item)
    listed.replace(list(present.values()))
    assert watched.by_address() == listed.by_address()


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["metadata", "spec", "status", "podIPs", "ip", "podIP", "uid", "name"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), junk))
def test_what_is_no_pod_is_survived(item: Json) -> None:
    held = Table("hanzo.ai", "east", Path("/nowhere"))
    held.put(item)
    held.forget(item)
    assert all(isinstance(address, str) for address in held.by_address())


def test_a_list_of_many_pages_is_one(tmp_path: Path) -> None:
    pods = [pod(f"web-{number}", f"10.0.1.{number}") for number in range(1, 26)]
    cluster = Cluster(pods, page=10, streams=[lambda _: None])
    with serving(cluster) as api:
        Watch(api, table(tmp_path)).step()
    assert len(names(tmp_path)) == 25
    assert sum("limit=500" in path for path in cluster.asked) == 3


def test_changes_are_followed_and_written_soon(tmp_path: Path) -> None:
    def changes(write: Write) -> None:
        write(event("ADDED", pod("db-1", "10.0.0.2"), 101))
        write(event("BOOKMARK", {"kind": "Pod"}, 105))
        write(event("MODIFIED", pod("db-1", "10.0.0.3"), 106))
        write(event("DELETED", pod("web-1", "10.0.0.1"), 107))
        cluster.stop.wait(20)

    cluster = Cluster([pod("web-1", "10.0.0.1")], streams=[changes])
    with serving(cluster) as api, following(api, tmp_path):
        eventually(lambda: names(tmp_path) == {"10.0.0.3": "db-1"})
    assert "resourceVersion=100" in cluster.asked[1]


def is_live(path: Path) -> bool:
    return live_sign(path / "locations.json").exists()


def test_it_is_live_while_it_is_watched_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pods, "_BEAT", 0.05)
    opened = threading.Event()

    def silent(write: Write) -> None:
        opened.wait(20)
        write(event("BOOKMARK", {"kind": "Pod"}, 105))
        cluster.stop.wait(20)

    # A list says nothing of what comes after it, nor does a watch that is refused.
    cluster = Cluster([pod("web-1", "10.0.0.1")], refuse=[0, 500], streams=[silent])
    with serving(cluster) as api, following(api, tmp_path):
        eventually(lambda: names(tmp_path) == {"10.0.0.1": "web-1"})
        assert not is_live(tmp_path)
        opened.set()
        eventually(lambda: is_live(tmp_path))
        # And again and again.
        live_sign(tmp_path / "locations.json").unlink()
        eventually(lambda: is_live(tmp_path))


def test_a_stream_that_ended_says_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "_BEAT", 0.05)
    cluster = Cluster([pod("web-1", "10.0.0.1")], streams=[_cut])
    with serving(cluster) as api:
        with pytest.raises(KubernetesError):
            Watch(api, table(tmp_path)).step()
        time.sleep(0.1)
        live_sign(tmp_path / "locations.json").unlink(missing_ok=True)
        time.sleep(0.3)
    assert not is_live(tmp_path)


def test_a_stream_on_which_nothing_comes_is_believed_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pods, "_BEAT", 0.05)
    monkeypatch.setattr(pods, "_SILENCE", 0.5)

    def hanging(write: Write) -> None:
        write(event("BOOKMARK", {"kind": "Pod"}, 105))
        cluster.stop.wait(20)

    sign = live_sign(tmp_path / "locations.json")
    cluster = Cluster([pod("web-1", "10.0.0.1")], streams=[hanging])
    with serving(cluster) as api, following(api, tmp_path):
        eventually(lambda: is_live(tmp_path))
        time.sleep(1.0)
        sign.unlink()
        time.sleep(0.3)
        assert not is_live(tmp_path)


def test_what_could_not_be_written_is_not_live(tmp_path: Path) -> None:
    held = table(tmp_path / "missing")
    held.replace([pod("web-1", "10.0.0.1")])
    with pytest.raises(FileNotFoundError):
        held.write()
    held.path.parent.mkdir()
    held.beat()
    assert not is_live(held.path.parent)
    held.write()
    held.beat()
    assert is_live(held.path.parent)


def test_a_burst_is_written_in_few_writes(tmp_path: Path) -> None:
    writes: list[int] = []

    class Counted(Table):
        def write(self) -> bool:
            writes.append(len(self.pods))
            return super().write()

    def burst(write: Write) -> None:
        for number in range(1, 201):
            write(event("ADDED", pod(f"web-{number}", f"10.0.2.{number}"), 100 + number))

    cluster = Cluster(streams=[burst])
    held = Counted("hanzo.ai", "east", tmp_path / "locations.json")
    with serving(cluster) as api:
        Watch(api, held, debounce=0.2).step()
        eventually(lambda: len(names(tmp_path)) == 200)
    assert len(writes) < 20


def _cut(write: Write) -> None:
    write(event("ADDED", pod("db-1", "10.0.0.2"), 101))
    write(event("ADDED", pod("db-2", "10.0.0.3"), 102)[:40])
    raise ConnectionError


def _nonsense(write: Write) -> None:
    write(event("ADDED", pod("db-1", "10.0.0.2"), 101))
    write(b"nothing\n")


def _no_object(write: Write) -> None:
    write(event("ADDED", pod("db-1", "10.0.0.2"), 101))
    write(b"[]\n")


@pytest.mark.parametrize("broken", [_cut, _nonsense, _no_object])
def test_a_broken_stream_goes_on_where_it_broke(
    tmp_path: Path, broken: Callable[[Write], None]
) -> None:
    def onward(write: Write) -> None:
        write(event("ADDED", pod("db-2", "10.0.0.3"), 102))
        cluster.stop.wait(20)

    cluster = Cluster([pod("web-1", "10.0.0.1")], streams=[broken, onward])
    expected = {"10.0.0.1": "web-1", "10.0.0.2": "db-1", "10.0.0.3": "db-2"}
    with serving(cluster) as api, following(api, tmp_path) as pauses:
        eventually(lambda: names(tmp_path) == expected)
    watches = [path for path in cluster.asked if "watch=1" in path]
    assert "resourceVersion=101" in watches[1]
    assert len(pauses) >= 1


@pytest.mark.parametrize("as_event", [True, False])
def test_a_version_that_is_gone_means_a_new_list(tmp_path: Path, as_event: bool) -> None:  # noqa: FBT001
    def gone(write: Write) -> None:
        write(json.dumps({"type": "ERROR", "object": status(410, "too old")}).encode() + b"\n")

    cluster = Cluster([pod("web-1", "10.0.0.1")])
    if as_event:
        cluster.streams = [gone]
    with serving(cluster) as api:
        watch = Watch(api, table(tmp_path))
        if not as_event:
            original = cluster.listed

            def listed(query: dict[str, list[str]]) -> Json:
                cluster.refuse = [410]
                return original(query)

            cluster.listed = listed  # type: ignore[method-assign]
        with pytest.raises(KubernetesError) as refused:
            watch.step()
        assert refused.value.status == 410
        cluster.refuse = []
        cluster.listed = Cluster.listed.__get__(cluster)  # type: ignore[method-assign]
        cluster.pods = [pod("db-1", "10.0.0.2")]
        cluster.streams = [lambda _: None]
        watch.step()
    assert names(tmp_path) == {"10.0.0.2": "db-1"}


def test_a_server_that_is_away_is_asked_again_ever_more_rarely(tmp_path: Path) -> None:
    cluster = Cluster([pod("web-1", "10.0.0.1")], refuse=[500] * 6)
    (tmp_path / "locations.json").write_text("{}")
    with serving(cluster) as api, following(api, tmp_path) as pauses:
        eventually(lambda: names(tmp_path) == {"10.0.0.1": "web-1"})
    assert pauses[5] > pauses[0]
    assert max(pauses) <= 30


def test_streams_that_end_at_once_are_not_asked_for_in_a_hurry(tmp_path: Path) -> None:
    cluster = Cluster(streams=[lambda _: None] * 8)
    with serving(cluster) as api, following(api, tmp_path) as pauses:
        eventually(lambda: len(pauses) >= 8)
    assert pauses[7] > 1


def test_the_table_is_never_seen_half_written(tmp_path: Path) -> None:
    held = table(tmp_path)
    pods = [pod(f"web-{number}", f"10.0.{number % 250}.{number // 250}") for number in range(2000)]
    seen: set[int] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.add(len(names(tmp_path)))

    thread = threading.Thread(target=look)
    thread.start()
    for count in (2000, 1, 2000, 1, 1500):
        held.replace(pods[:count])
        held.write()
    done.set()
    thread.join()
    assert seen <= {0, 1, 1500, 2000}


def test_a_file_that_was_taken_away_is_written_again(tmp_path: Path) -> None:
    held = table(tmp_path)
    held.replace([pod("web-1", "10.0.0.1")])
    assert held.write()
    assert not held.write()
    held.path.unlink()
    assert held.write()
