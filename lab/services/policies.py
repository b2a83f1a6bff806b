"""The policies that the lab runs on: the product's, and over them the lab's own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lab.mesh.policies import read
from lab.mesh.processes import MeshError
from zt.load import PolicyError, policy_texts
from zt.model import Mesh

Json = dict[str, Any]

OWN = Path(__file__).parents[1] / "policies"
# SPIRE takes a new CA when a sixth of the old one's life is left, and has begun with it at half: so
# every six minutes here. An SVID is renewed at half of its life, every minute.
SHORT = {"svid": "2m", "ca": "12m"}


def lay(policies: Path, target: Path, *, short: bool, own: Path = OWN) -> None:
    """Write a copy of ``policies`` to ``target``, which is replaced, with those of ``own`` over it.

    Documents are the same where kind, cluster and name are; they are merged (``merged``). With
    ``short``, certificates live for minutes.

    Raises:
        MeshError: if the policies have errors, those given or those that come of it.
    """
    read(policies)
    over = {_key(document): document for document in _documents(own)}
    if short:
        mesh = next(key for key in over if key[0] == Mesh.KIND)
        over[mesh] = merged(over[mesh], {"spec": {"lifetimes": SHORT}})
    if target.exists():
        shutil.rmtree(target)
    for name, text in policy_texts(policies).items():
        _write(target / name, _laid(text, over))
    _write(target / "lab" / "lab.yaml", yaml.safe_dump_all(over.values(), sort_keys=False))
    read(target)


def _documents(folder: Path) -> Iterator[Json]:
    try:
        texts = policy_texts(folder)
    except PolicyError as error:
        raise MeshError(str(error)) from None
    for text in texts.values():
        yield from yaml.safe_load_all(text)


def _key(document: Json) -> tuple[str, str | None, str]:
    return document["kind"], document["spec"].get("cluster"), document["metadata"]["name"]


def _laid(text: str, over: dict[tuple[str, str | None, str], Json]) -> str:
    """A file as it is, unless one of its documents is another in the lab: then written anew.

    What is merged is taken out of ``over``.
    """
    documents = [document for document in yaml.safe_load_all(text) if document is not None]
    if not any(_key(document) in over for document in documents):
        return text
    changed = [merged(document, over.pop(_key(document), {})) for document in documents]
    return yaml.safe_dump_all(changed, sort_keys=False)


def merged(document: Any, over: Any) -> Any:  # noqa: ANN401 - any YAML
    """One over another: mappings and lists of named items part by part, all else replaced."""
    if isinstance(document, dict) and isinstance(over, dict):
        return document | {
            key: merged(document[key], value) if key in document else value
            for key, value in over.items()
        }
    if _is_named(document) and _is_named(over):
        names = {item["name"]: item for item in over}
        known = [merged(item, names.pop(item["name"], {})) for item in document]
        return [*known, *names.values()]
    return over


def _is_named(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(i, dict) and "name" in i for i in value)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
