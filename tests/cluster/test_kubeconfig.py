"""What a kubeconfig says, and that one which says too little is refused in a sentence."""

from __future__ import annotations

import base64
import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.cluster.certificates import Pair, authority, issue, kubeconfig
from lab.cluster.kubeconfig import access
from lab.cluster.model import LabError

SERVER = "https://127.0.0.1:4711"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def pair() -> tuple[Pair, Pair]:
    root = authority("API")
    return root, issue(root, "somebody")


@pytest.fixture
def document(pair: tuple[Pair, Pair]) -> Json:
    found: Json = yaml.safe_load(kubeconfig(*pair, "hanzo-k8s", SERVER))
    return copy.deepcopy(found)


def text(document: Json) -> str:
    return yaml.safe_dump(document)


def test_a_text_is_as_good_as_a_file(document: Json, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text(document))
    for given in (path, str(path), text(document)):
        found = access(given)
        assert (found.server, found.token) == (SERVER, None)
        assert len(found.tls.get_ca_certs()) == 1


def test_certificates_may_be_files(document: Json, tmp_path: Path) -> None:
    entries = (document["clusters"][0]["cluster"], document["users"][0]["user"])
    for entry in entries:
        for name in [name for name in entry if name.endswith("-data")]:
            path = tmp_path / name.removesuffix("-data")
            path.write_bytes(base64.b64decode(entry.pop(name)))
            entry[path.name] = str(path)
    assert len(access(text(document)).tls.get_ca_certs()) == 1


def test_another_context_is_another_server_and_user(document: Json) -> None:
    cluster = {**document["clusters"][0]["cluster"], "server": "https://192.0.2.1"}
    document["clusters"].append({"name": "other", "cluster": cluster})
    document["users"].append({"name": "robot", "user": {"token": "a-token"}})
    context = {"cluster": "other", "user": "robot"}
    document["contexts"].append({"name": "there", "context": context})
    found = access(text(document), "there")
    assert (found.server, found.token) == ("https://192.0.2.1", "a-token")
    assert access(text(document)).server == SERVER


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("\n", "no kubeconfig"),
        ("[]\n", "no kubeconfig"),
        ("a: [\n", "no kubeconfig: while parsing"),
        ("/nowhere", "no kubeconfig: .*No such file or directory: '/nowhere'"),
        ("clusters: []\nusers: []\n", "the kubeconfig has no context ''"),
    ],
)
def test_what_is_none_is_refused(content: str, sentence: str) -> None:
    with pytest.raises(LabError, match=f"^{sentence}"):
        access(content)


@pytest.mark.parametrize(
    ("kind", "key", "value", "sentence"),
    [
        ("context", "user", "nobody", "the kubeconfig has no user 'nobody'"),
        ("context", "cluster", "none", "the kubeconfig has no cluster 'none'"),
        ("cluster", "server", None, "the kubeconfig names no server of its cluster"),
        ("cluster", "certificate-authority-data", "eA==", "the kubeconfig's certificates cannot"),
        ("cluster", "certificate-authority-data", 7, "the kubeconfig's certificates cannot"),
        ("user", "client-key-data", "eA==", "the kubeconfig's certificates cannot be read"),
        ("user", "client-certificate-data", "!", "the kubeconfig's certificates cannot be read"),
    ],
)
def test_what_says_too_little_is_refused(
    document: Json, kind: str, key: str, value: object, sentence: str
) -> None:
    document[f"{kind}s"][0][kind][key] = value
    with pytest.raises(LabError, match=f"^{sentence}"):
        access(text(document))
