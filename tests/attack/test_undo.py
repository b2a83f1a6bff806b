"""What is made or taken away is put back, also by the next program."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from lab.attack.undo import Undo, manager_of, manifest_of, undoing
from lab.cluster.client import Answer, Client
from lab.cluster.model import LabError
from lab.mesh.processes import Identity

STORED = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {
        "name": "lists",
        "namespace": "hanzo",
        "labels": {"a": "b"},
        "uid": "1",
        "resourceVersion": "7",
        "creationTimestamp": "now",
        "managedFields": [
            {"manager": "kubectl", "operation": "Update"},
            {"manager": "pulumi", "operation": "Apply"},
        ],
    },
    "data": {"clients": "few"},
}


class Api:
    """An API server that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.refuses: set[str] = set()

    def delete(self, path: str) -> None:
        if path.partition("?")[0] in self.refuses:
            raise LabError(f"{path} stays")
        self.asked.append(("delete", path.partition("?")[0]))

    def wait(self, path: str, is_so: Callable[[object], bool], patience: float) -> None:
        assert patience
        assert is_so(None)
        assert self.asked[-1] == ("delete", path)

    def apply(self, path: str, manifest: object, manager: str) -> None:
        self.asked.append(("apply", path, manifest, manager))

    def request(self, method: str, path: str, body: object, *, content_type: str) -> Answer:
        assert content_type == "application/merge-patch+json"
        self.asked.append((method, path, body))
        return Answer(200, {}, ())


def apis(api: Api) -> Callable[[str], Client]:
    return lambda _cluster: cast("Client", api)


def test_the_newest_is_undone_first(tmp_path: Path) -> None:
    api = Api()
    with undoing(tmp_path / "attack.json", apis(api)) as undo:
        undo.delete("c", "/one")
        undo.merge("c", "/two", {"data": None})
        undo.apply("c", "/three", STORED, {"data": {"added": None}})
        assert json.loads((tmp_path / "attack.json").read_bytes())
    assert [asked[:2] for asked in api.asked] == [
        ("PATCH", "/three"),
        ("apply", "/three"),
        ("PATCH", "/two"),
        ("delete", "/one"),
    ]
    assert not (tmp_path / "attack.json").exists()


def test_it_is_undone_when_the_block_is_interrupted(tmp_path: Path) -> None:
    api = Api()

    def interrupted() -> None:
        with undoing(tmp_path / "f.json", apis(api)) as undo:
            undo.delete("c", "/one")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert api.asked == [("delete", "/one")]


def test_the_next_undoes_what_one_that_was_killed_left(tmp_path: Path) -> None:
    killed = Undo(tmp_path / "f.json", apis(Api()))
    killed.delete("c", "/one")
    api = Api()
    with undoing(tmp_path / "f.json", apis(api)) as undo:
        assert api.asked == [("delete", "/one")]
        assert undo.is_empty


def test_one_that_fails_keeps_no_other_and_is_not_forgotten(tmp_path: Path) -> None:
    api = Api()
    api.refuses.add("/two")
    undo = Undo(tmp_path / "f.json", apis(api))
    for path in ("/one", "/two", "/three"):
        undo.delete("c", path)
    with pytest.raises(LabError, match="/two"):
        undo.all()
    assert api.asked == [("delete", "/three"), ("delete", "/one")]
    assert [step["path"] for step in json.loads((tmp_path / "f.json").read_bytes())] == ["/two"]


def test_one_step_is_undone_by_itself(tmp_path: Path) -> None:
    api = Api()
    undo = Undo(tmp_path / "f.json", apis(api))
    undo.delete("c", "/one")
    undo.done(undo.delete("c", "/two"))
    assert api.asked == [("delete", "/two")]
    undo.all()
    assert api.asked[1:] == [("delete", "/one")]


def test_rules_of_a_process_that_has_ended_need_no_undoing(tmp_path: Path) -> None:
    undo = Undo(tmp_path / "f.json", apis(Api()))
    undo.nft(Identity(1 << 22, 5, "another boot"), "nonsense")
    undo.all()
    assert undo.is_empty


def test_an_object_is_put_back_as_whose_it_was() -> None:
    assert manager_of(STORED) == "pulumi"
    assert manifest_of(STORED) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "lists", "namespace": "hanzo", "labels": {"a": "b"}},
        "data": {"clients": "few"},
    }


def test_a_file_that_is_something_else_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text("nonsense")
    with pytest.raises(LabError, match="is not what an attack left"):
        Undo(tmp_path / "f.json", apis(Api()))
