"""Whatever settings there may be can be written in a stack's file, and are read from it again."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from hypothesis import given
from hypothesis import strategies as st

from components.configuration import PROJECT, stack_settings
from components.settings import (
    Adopted,
    ClusterDatabase,
    Created,
    DevelopmentAuthority,
    Evaluator,
    ExistingDatabase,
    ExistingTrail,
    Gateway,
    Images,
    KeySource,
    ManagedDatabase,
    NodePool,
    Spire,
    StackSettings,
)
from tests.components.registered import CHECKOUT

TEXT = st.text(min_size=1)
NUMBER = st.integers(0, 1000)
MAYBE = st.none() | TEXT


def built(kind: type[Any], **parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values of a class whose other fields are text."""
    others = {item.name: TEXT for item in fields(kind)}
    return st.builds(kind, **{**others, **parts})


KEYS = built(KeySource)
EXISTING = built(ExistingDatabase)
IN_CLUSTER = built(ClusterDatabase, storage_class=MAYBE)
POOL = built(NodePool, least=NUMBER, most=NUMBER)
SETTINGS = st.builds(
    StackSettings,
    cluster=TEXT,
    production=st.booleans(),
    policies=st.just("/policies"),
    kubernetes=built(Adopted, kubeconfig=st.just("/kubeconfig"), context=MAYBE)
    | built(Created, pools=st.lists(POOL).map(tuple)),
    spire=built(
        Spire,
        replicas=NUMBER,
        authority=KEYS | built(DevelopmentAuthority),
        datastore=EXISTING | IN_CLUSTER,
        node_authority=MAYBE,
    ),
    evaluator=built(Evaluator, replicas=NUMBER),
    audit=built(ExistingTrail, admin_key=MAYBE, retention_key=MAYBE)
    | IN_CLUSTER
    | built(ManagedDatabase, nodes=NUMBER, cluster_id=MAYBE, network=MAYBE),
    gateway=built(
        Gateway,
        keys=st.none() | KEYS,
        peers=st.dictionaries(TEXT, TEXT).map(lambda peers: tuple(sorted(peers.items()))),
        userspace=st.booleans(),
        drain=NUMBER,
    ),
    images=built(Images),
)


def written(value: Any, kind: Any = None) -> Any:  # noqa: ANN401 - any setting, any JSON
    """A setting as it stands in a file."""
    if is_dataclass(value):
        hints = get_type_hints(type(value))
        inside = {
            camel(item.name): written(getattr(value, item.name), hints[item.name])
            for item in fields(value)
        }
        tagged = len([option for option in get_args(kind) if hasattr(option, "TAG")]) > 1
        return {getattr(value, "TAG", ""): inside} if tagged else inside
    if isinstance(value, tuple):
        pairs = get_origin(get_args(kind)[0]) is tuple
        return dict(value) if pairs else [written(item) for item in value]
    return value


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def given_to_program(config: Mapping[str, Any]) -> dict[str, str]:
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()
    }


@given(SETTINGS)
def test_what_is_written_is_read(settings: StackSettings) -> None:
    assert stack_settings(given_to_program(written(settings)), Path("/")) == settings


def test_pulumi_knows_the_same_keys() -> None:
    """What Pulumi checks before the program runs, and what the program checks."""
    project = yaml.safe_load((CHECKOUT / "Pulumi.yaml").read_text())
    assert project["name"] == PROJECT
    declared = {camel(item.name): item for item in fields(StackSettings)}
    assert project["config"].keys() == declared.keys()
    for name, key in project["config"].items():
        item = declared[name]
        is_optional = item.default is not MISSING or item.default_factory is not MISSING
        assert ("default" in key) is is_optional, name


def test_a_path_is_relative_to_the_checkout(tmp_path: Path) -> None:
    text = (CHECKOUT / "stacks" / "Pulumi.lab-lux-k8s.yaml").read_text()
    config = {key.partition(":")[2]: item for key, item in yaml.safe_load(text)["config"].items()}
    settings = stack_settings(given_to_program(config), tmp_path)
    assert isinstance(settings.kubernetes, Adopted)
    assert settings.kubernetes.kubeconfig == str(tmp_path / ".zt/lab/lux-k8s/kubeconfig")
    assert settings.policies == str(tmp_path / "policies")
