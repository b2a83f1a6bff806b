"""From the files of a policy to the snapshot in force: builder and store together."""

import shutil
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import orjson
import pytest

from engine.builder import build, snapshot_of
from engine.policy.changes import fingerprint
from engine.policy.store import PolicyStore
from engine.policy.table import NO_REVISION
from tests.engine.conftest import Write
from tests.engine.samples import API, DB, POLICY, TODAY, WEB, policy
from zt.compile.decisions import encode
from zt.decide import Verdict, decision_table
from zt.effective import effective
from zt.load import load_policy


@dataclass
class Followed:
    """A policy's files, what is built of them, and the store that follows it."""

    source: Path
    folder: Path
    today: date = TODAY
    store: PolicyStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = PolicyStore(self.folder)
        self.build()

    def build(self) -> bool:
        build(self.source, self.folder, self.today)
        return self.store.refresh()

    def verdict(self, source: str = WEB) -> Verdict:
        return self.store.current.table.decide(source, DB, 5432).verdict

    @property
    def problems(self) -> tuple[str, ...]:
        return self.store.status.problems


@pytest.fixture
def followed(write_policy: Write, tmp_path: Path) -> Followed:
    return Followed(write_policy(POLICY), tmp_path / "built")


def test_a_policy_is_built_and_opened(followed: Followed) -> None:
    assert followed.problems == ()
    assert followed.verdict() is Verdict.ALLOW
    assert followed.store.status.revision == followed.store.current.revision
    assert followed.store.status.reloads == {"ok": 1, "failed": 0}


def test_what_people_read_lies_beside_the_table(followed: Followed) -> None:
    folder = followed.store.current.folder
    assert folder is not None
    documents = orjson.loads((folder / "policies.json").read_bytes())
    assert [document["name"] for document in documents] == ["core"]
    assert orjson.loads((folder / "graph.json").read_bytes())
    assert (folder / "policies" / "policy.yaml").read_text() == POLICY


def test_without_a_policy_everything_is_refused(tmp_path: Path) -> None:
    missing = Followed(tmp_path / "nowhere", tmp_path / "built")
    assert not missing.store.current.loaded
    assert missing.store.current.revision == NO_REVISION
    assert missing.verdict() is Verdict.DENY
    assert "cannot be read" in missing.problems[0]


@pytest.mark.parametrize(
    "bad",
    [
        "kind: [",
        POLICY.replace("kind: Mesh", "kind: Mash"),
        POLICY.replace("shop/*", "shop/nobody"),
    ],
    ids=["not YAML", "no mesh", "a rule about nobody"],
)
def test_a_bad_change_leaves_the_last_good_table_in_force(
    followed: Followed, write_policy: Write, bad: str
) -> None:
    good = followed.store.current
    write_policy(bad)
    assert not followed.build()
    assert followed.store.current is good
    assert followed.problems
    assert followed.store.status.revision == good.revision
    assert followed.store.status.reloads == {"ok": 1, "failed": 1}

    write_policy(POLICY)
    followed.build()
    assert followed.problems == ()
    assert followed.store.current.revision == good.revision


def test_a_good_change_is_swapped_in(followed: Followed, write_policy: Write) -> None:
    before = followed.store.current
    write_policy(POLICY.replace("shop/*", "shop/api"))
    assert followed.build()
    assert followed.verdict() is Verdict.DENY
    assert followed.store.current.revision != before.revision
    assert before.table.decide(WEB, DB, 5432).verdict is Verdict.ALLOW, "a snapshot never changes"


def test_nothing_is_opened_again_while_nothing_changes(followed: Followed) -> None:
    before = followed.store.current
    assert not followed.store.refresh()
    assert followed.store.current is before


def test_old_versions_are_removed_while_the_one_in_use_stays_open(
    followed: Followed, write_policy: Write
) -> None:
    first = followed.store.current
    for number in range(5):
        write_policy(POLICY + f"# {number}\n")
        build(followed.source, followed.folder, TODAY)
    assert len(list(followed.folder.glob("version-*"))) == 2
    assert first.table.decide(WEB, DB, 5432).verdict is Verdict.ALLOW
    assert followed.store.refresh()


def test_a_damaged_table_leaves_the_last_good_one(followed: Followed, write_policy: Write) -> None:
    good = followed.store.current
    write_policy(POLICY.replace("shop/*", "shop/api"))
    build(followed.source, followed.folder, TODAY)
    table = followed.folder / "current" / "table.bin"
    content = table.read_bytes()
    table.write_bytes(content[:-8])
    assert not followed.store.refresh()
    assert followed.store.current is good
    table.write_bytes(content)
    assert followed.store.refresh()


def test_the_swapped_link_of_a_config_map_is_a_change(tmp_path: Path) -> None:
    """The kubelet's layout: files are links into ..data, which is a link that moves."""
    mount = tmp_path / "mount"
    for version, text in (("..1", POLICY), ("..2", POLICY.replace("shop/*", "shop/api"))):
        (mount / version).mkdir(parents=True)
        (mount / version / "policy.yaml").write_text(text)
    (mount / "..data").symlink_to("..1")
    (mount / "policy.yaml").symlink_to("..data/policy.yaml")
    followed, seen = Followed(mount, tmp_path / "built"), fingerprint(mount)
    assert followed.verdict() is Verdict.ALLOW
    assert fingerprint(mount) == seen

    (mount / "..new").symlink_to("..2")
    (mount / "..new").rename(mount / "..data")
    assert fingerprint(mount) != seen
    followed.build()
    assert followed.verdict() is Verdict.DENY


def test_a_rule_expires_when_the_day_changes(followed: Followed) -> None:
    assert followed.verdict(API) is Verdict.ALLOW
    followed.today += timedelta(days=1)
    followed.build()
    assert followed.verdict(API) is Verdict.DENY


def test_a_policy_that_disappears_stays_in_force(followed: Followed) -> None:
    shutil.rmtree(followed.source)
    followed.build()
    assert followed.verdict() is Verdict.ALLOW
    assert followed.problems


def test_a_compiled_table_is_a_policy_too(tmp_path: Path) -> None:
    compiled = tmp_path / "decisions.json"
    compiled.write_text(encode(effective(policy(), TODAY), decision_table(policy(), TODAY)))
    followed = Followed(compiled, tmp_path / "built")
    direct = snapshot_of(policy(), TODAY)
    assert followed.verdict() is Verdict.ALLOW
    assert followed.store.current.revision == direct.revision
    assert followed.store.current.surroundings == direct.surroundings

    compiled.write_text(compiled.read_text().replace("5432", "5433"))
    followed.build()
    assert followed.verdict() is Verdict.ALLOW
    assert "is not as it was compiled" in followed.problems[0]


def test_gateways_are_known_from_the_policy_and_from_what_is_compiled(tmp_path: Path) -> None:
    shipped = load_policy(Path(__file__).parents[3] / "policies")
    direct = snapshot_of(shipped, TODAY)
    assert {item.rpartition("/")[2] for item in direct.surroundings.gateways} == {"wg-gateway"}
    compiled = tmp_path / "decisions.json"
    compiled.write_text(encode(effective(shipped, TODAY), decision_table(shipped, TODAY)))
    followed = Followed(compiled, tmp_path / "built")
    assert followed.store.current.surroundings == direct.surroundings


def test_the_revision_names_what_a_policy_says_not_how_it_is_written() -> None:
    revision = snapshot_of(policy(), TODAY).revision
    commented = policy("# a comment\n" + POLICY)
    other = policy(POLICY.replace("shop/*", "shop/api"))
    assert snapshot_of(commented, TODAY).revision == revision
    assert snapshot_of(other, TODAY).revision != revision
