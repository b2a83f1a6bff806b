"""What is known of a collection, whatever breaks meanwhile."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import pytest

from lab.cluster.client import Client
from lab.enforcer import watch
from lab.enforcer.watch import PODS, Collection, Watched, WatchError, follow
from tests.engine.kubernetes.apiserver import Cluster, Write, event, pod, serving
from tests.waiting import eventually, running


def nothing() -> None:
    return


@contextmanager
def served(cluster: Cluster) -> Iterator[Client]:
    cluster.token = ""
    with serving(cluster) as api:
        context = ssl.create_default_context(cafile=api.folder / "ca.crt")
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        yield Client(api.host, api.port, context, 5)


def names(collection: Collection) -> set[str] | None:
    found = collection.objects()
    return None if found is None else {item["metadata"]["name"] for item in found}


def following(collection: Collection) -> AbstractContextManager[list[float]]:
    """A collection that is followed in a thread; yields the pauses that were made."""
    return running(partial(follow, collection))


def changes(write: Write) -> None:
    write(event("ADDED", pod("late", "10.0.0.2"), 101))
    write(event("MODIFIED", pod("early", "10.0.0.9"), 102))
    write(event("BOOKMARK", {"metadata": {}}, 150))
    write(event("DELETED", pod("late", "10.0.0.2"), 151))


def test_what_is_listed_then_watched_is_known() -> None:
    cluster = Cluster([pod("early", "10.0.0.1")], streams=[changes, lambda _: None])
    told: list[int] = []
    with served(cluster) as client:
        collection = Collection(client, PODS, lambda: told.append(1))
        assert collection.objects() is None
        collection.step()
        (known,) = collection.objects() or ()
        assert known["status"]["podIP"] == "10.0.0.9"
        # The list, and three changes; a bookmark is none.
        assert len(told) == 4
        collection.step()
    assert "resourceVersion=100" in cluster.asked[1]
    # From the last event on, without another list.
    assert "resourceVersion=151" in cluster.asked[2]
    assert len(cluster.asked) == 3


def broken(write: Write) -> None:
    write(event("ADDED", pod("late", "10.0.0.2"), 101))
    raise ConnectionError


def test_a_stream_that_breaks_is_taken_up_where_it_broke() -> None:
    cluster = Cluster([pod("early", "10.0.0.1")], streams=[broken])
    with served(cluster) as client:
        collection = Collection(client, PODS, nothing)
        with following(collection):
            eventually(lambda: len(cluster.asked) >= 3)
            assert names(collection) == {"early", "late"}
    assert "resourceVersion=101" in cluster.asked[2]


def gone(write: Write) -> None:
    write(b'{"type":"ERROR","object":{"code":410,"message":"too old resource version"}}\n')


def test_what_the_api_no_longer_has_is_listed_again() -> None:
    cluster = Cluster([pod("early", "10.0.0.1")], streams=[gone])
    with served(cluster) as client:
        collection = Collection(client, PODS, nothing)
        with pytest.raises(WatchError, match="too old"):
            collection.step()
        cluster.pods = [pod("other", "10.0.0.3")]
        with following(collection):
            eventually(lambda: names(collection) == {"other"})


def test_a_refused_watch_leads_to_a_list_if_the_version_is_gone() -> None:
    cluster = Cluster([pod("early", "10.0.0.1")], refuse=[0, 410])
    with served(cluster) as client:
        collection = Collection(client, PODS, nothing)
        with pytest.raises(WatchError):
            collection.step()
        with following(collection):
            eventually(lambda: len(cluster.asked) >= 4)
    assert [("watch" in path) for path in cluster.asked[:4]] == [False, True, False, True]


def test_objects_stay_while_the_api_refuses(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster([pod("early", "10.0.0.1")], streams=[lambda _: None])
    with served(cluster) as client:
        collection = Collection(client, PODS, nothing)
        collection.step()
        cluster.refuse = [500] * 8
        with following(collection) as pauses:
            eventually(lambda: len(cluster.asked) >= 8)
            assert names(collection) == {"early"}
    assert "stays as it was" in caplog.text
    # At longer intervals, up to a bound.
    assert pauses[:5] == sorted(pauses[:5])
    assert max(pauses) <= 2


def test_an_api_that_cannot_be_reached_is_an_error() -> None:
    cluster = Cluster()
    with served(cluster) as client:
        pass
    with pytest.raises(WatchError, match="cannot be reached") as caught:
        Collection(client, PODS, nothing).step()
    assert caught.value.status == 0


def test_an_answer_that_is_no_json_is_an_error() -> None:
    cluster = Cluster(streams=[lambda write: write(b"<html>\n")])
    with served(cluster) as client, pytest.raises(WatchError):
        Collection(client, PODS, nothing).step()


def test_a_cluster_is_known_once_all_of_it_is() -> None:
    cluster = Cluster(
        [pod("early", "10.0.0.1", spec={"containers": []})], streams=[lambda _: None] * 3
    )
    with served(cluster) as client:
        # All three are the same collection here.
        parts = [Collection(client, PODS, nothing) for _ in range(3)]
        held = Watched(*parts)
        for part in parts:
            assert held.cluster() is None
            part.step()
    found = held.cluster()
    assert found is not None
    assert [known.name for known in found.pods] == ["early"]


def test_all_three_collections_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    followed: list[str] = []
    all_there = threading.Event()

    def noted(collection: Collection) -> None:
        followed.append(collection.path)
        if len(followed) == 3:
            all_there.set()

    monkeypatch.setattr(watch, "follow", noted)
    watch.watched(Client("localhost", 1, ssl.create_default_context()), nothing)
    assert all_there.wait(10)
    assert sorted(followed) == sorted((PODS, watch.NAMESPACES, watch.POLICIES))
