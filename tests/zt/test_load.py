"""Files and folders into a policy."""

import errno
import os
import socket
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import documents, policies
from tests.zt.small_policy import POLICY
from tests.zt.written import as_yaml, written
from zt.effective import Parties, named_rules
from zt.load import Loaded, PolicyError, assemble, load, load_policy, load_texts
from zt.model import KINDS, Policy

ROOT = Path(__file__).parents[2]
MESH, *OTHERS = POLICY.split("---\n")


def messages(loaded: Loaded, folder: Path) -> list[str]:
    assert loaded.policy is None
    return [str(finding).replace(str(folder), "") for finding in loaded.findings]


def test_the_real_policy_is_read() -> None:
    policy = load_policy(ROOT / "policies")
    assert policy.mesh.trust_domain == "hanzo.ai"
    assert {service.name for service in policy.services} >= {"iam", "gateway", "postgres", "redis"}


@given(policies())
def test_what_is_written_is_read_again(policy: Policy) -> None:
    loaded = load_texts([("policy.yaml", as_yaml(written(policy)))])
    assert loaded.findings == ()
    assert loaded.policy == policy


@pytest.mark.parametrize("path", ["policies", "tests/zt/data/policy.yaml"])
def test_a_policy_with_every_kind_is_written_and_read_again(path: str) -> None:
    policy = load_policy(ROOT / path)
    kinds = {item["kind"] for item in written(policy)}
    assert kinds == {kind.KIND for kind in KINDS}
    assert load_texts([("policy.yaml", as_yaml(written(policy)))]).policy == policy


@given(policies(), st.randoms(use_true_random=False))
def test_neither_the_order_of_documents_nor_the_files_matter(
    policy: Policy, random: Random
) -> None:
    shuffled = list(documents(policy))
    random.shuffle(shuffled)
    assert assemble(shuffled) == policy
    files = written(policy)
    random.shuffle(files)
    texts = [(f"{number}.yaml", as_yaml([item])) for number, item in enumerate(files)]
    assert load_texts(texts).policy == policy


def test_every_position_is_that_of_the_value(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    policy = load_policy(file)
    lines = POLICY.splitlines()

    def at(where: object) -> str:
        name, line, column = str(where).rsplit(":", 2)
        assert name == str(file)
        return lines[int(line) - 1][int(column) - 1 :]

    (iam,) = (service for service in policy.services if service.name == "iam")
    assert at(iam.where.field("name")) == "iam"
    assert at(iam.where.field("cluster")) == "east"
    assert at(iam.where.field("replicas")) == "1"
    assert at(iam.ports[0].where.field("port")) == "8000"
    rule = policy.access[0].rules[0]
    assert at(rule.where).startswith("from: {spiffe:")
    assert at(rule.source.where.field("spiffe")).startswith('"spiffe://hanzo.ai/east/hanzo/iam"')
    assert at(rule.to[1].where.field("ports", 0)) == "4222]}"
    # A field that is not written is where its mapping is.
    assert rule.where.field("expires") == rule.where


def test_equal_policies_are_equal_wherever_they_stand() -> None:
    one = load_texts([("a.yaml", POLICY.encode())]).policy
    two = load_texts([("b.yaml", b"# moved\n" + POLICY.encode())]).policy
    assert one == two


def test_rules_are_numbered_in_file_order() -> None:
    policy = load_texts([("policy.yaml", POLICY.encode())]).policy
    assert policy
    parties = Parties(policy)
    found = [(named.name, len(parties.of(named.rule.source))) for named in named_rules(policy)]
    assert found == [(f"core/rule-{number}", 1) for number in range(1, 6)]


def test_a_folder_is_read_with_those_below_and_without_what_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "mesh.yaml").write_text(MESH)
    (tmp_path / "a" / "rest.yml").write_text("---\n".join(OTHERS))
    for ignored in (".hidden.yaml", "notes.txt", "policy.yaml.bak"):
        (tmp_path / ignored).write_text("not: [a policy")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.yaml").write_text("not: [a policy")
    assert load(tmp_path).policy == load_texts([("all.yaml", POLICY.encode())]).policy


def test_a_mounted_configmap_is_read_once(tmp_path: Path) -> None:
    version = tmp_path / "..2026_11_23"
    version.mkdir()
    (version / "policy.yaml").write_text(POLICY)
    (tmp_path / "..data").symlink_to(version.name)
    (tmp_path / "policy.yaml").symlink_to("..data/policy.yaml")
    assert load(tmp_path).findings == ()


def test_a_folder_may_itself_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "policy.yaml").write_text(POLICY)
    (tmp_path / "link").symlink_to("real")
    assert load(tmp_path / "link").findings == ()


def test_what_cannot_be_read_is_said_beside_everything_else(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: Servise\n")
    (tmp_path / "broken.yaml").symlink_to("nowhere.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "linked").symlink_to("folder.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    with (tmp_path / "large.yaml").open("wb") as large:
        large.truncate(65 << 20)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.yaml"))
        found = messages(load(tmp_path), tmp_path)
    assert found == [
        "/a.yaml:1:1: error: apiVersion should be 'zt.hanzo.ai/v1' [wrong-version]",
        "/broken.yaml:1:1: error: cannot be read: No such file or directory [unreadable]",
        "/large.yaml:1:1: error: cannot be read: it is larger than 64 MiB [unreadable]",
        (
            "/linked:1:1: error: cannot be read: it is a link to a folder, and those are not "
            "followed [unreadable]"
        ),
        "/loop.yaml:1:1: error: cannot be read: Too many levels of symbolic links [unreadable]",
        "/pipe.yaml:1:1: error: cannot be read: it is no regular file [unreadable]",
        "/socket.yaml:1:1: error: cannot be read: it is no regular file [unreadable]",
    ]


def test_a_path_that_is_not_there_is_said(tmp_path: Path) -> None:
    assert messages(load(tmp_path / "policies"), tmp_path) == [
        "/policies:1:1: error: cannot be read: No such file or directory [unreadable]"
    ]


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert messages(load(tmp_path / "pipe"), tmp_path) == [
        "/pipe:1:1: error: cannot be read: it is no regular file [unreadable]"
    ]


def test_a_folder_without_policies_is_said(tmp_path: Path) -> None:
    assert messages(load(tmp_path), tmp_path) == [":1:1: error: holds no .yaml file [no-policy]"]


def test_a_folder_that_may_not_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "secret").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("secret"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert messages(load(tmp_path), tmp_path) == [
        "/secret:1:1: error: cannot be read: Permission denied [unreadable]"
    ]


def test_a_file_that_may_not_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)

    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert messages(load(file), tmp_path) == [
        "/policy.yaml:1:1: error: cannot be read: Permission denied [unreadable]"
    ]


def test_a_file_name_that_is_no_unicode_can_be_said(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.yaml")).write_text("- a\n")
    assert messages(load(tmp_path), tmp_path) == [
        "/caf\\xe9.yaml:1:1: error: expected a mapping, found a list [wrong-type]"
    ]


def test_a_missing_mesh_is_not_said_where_a_document_could_not_be_read() -> None:
    broken = MESH.replace("trustDomain", "trustDomian")
    codes = [finding.code for finding in load_texts([("mesh.yaml", broken.encode())]).findings]
    assert codes == ["missing-key", "unknown-key"]


def test_no_text_at_all_is_no_policy() -> None:
    (finding,) = load_texts([]).findings
    assert str(finding) == "<policy>:1:1: error: no document of kind Mesh [no-mesh]"


def test_findings_come_in_the_order_of_files_and_lines() -> None:
    texts = [("b.yaml", b"- a\n---\n- b\n"), ("a.yaml", b"- c\n")]
    found = [str(finding.where) for finding in load_texts(texts).findings]
    assert found == ["a.yaml:1:1", "b.yaml:1:1", "b.yaml:3:1"]


def test_an_unusable_policy_raises_all_its_findings(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("- a\n---\n- b\n")
    with pytest.raises(PolicyError) as raised:
        load_policy(tmp_path)
    assert len(raised.value.findings) == 2
    assert str(raised.value).count("expected a mapping, found a list") == 2
