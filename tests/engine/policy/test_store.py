import shutil
from datetime import date, timedelta
from pathlib import Path

import pytest

from engine.snapshot import NO_REVISION, NOTHING, PolicyStore, snapshot
from tests.engine.conftest import Write
from tests.engine.samples import API, DB, POLICY, TODAY, WEB, policy
from zt.decide import Verdict, decide

GRANTED = (WEB, DB, 5432)


def store(folder: Path, today: date = TODAY) -> PolicyStore:
    made = PolicyStore(folder, lambda: today)
    made.refresh()
    return made


def verdict(of: PolicyStore, source: str = WEB) -> Verdict:
    return decide(of.current.table, source, DB, 5432).verdict


def test_a_policy_is_loaded_and_indexed(write_policy: Write) -> None:
    loaded = store(write_policy(POLICY))
    assert loaded.problems == ()
    assert verdict(loaded) is Verdict.ALLOW
    assert len(loaded.current.revision) >= 12


def test_without_a_policy_everything_is_refused(tmp_path: Path) -> None:
    missing = store(tmp_path / "nowhere")
    assert missing.current is NOTHING
    assert missing.current.revision == NO_REVISION
    assert verdict(missing) is Verdict.DENY
    assert "cannot be read" in str(missing.problems[0])


@pytest.mark.parametrize(
    "bad",
    [
        "kind: [",
        POLICY.replace("kind: Mesh", "kind: Mash"),
        POLICY.replace("shop/*", "shop/nobody"),
    ],
    ids=["not YAML", "no mesh", "a rule about nobody"],
)
def test_a_bad_change_leaves_the_last_good_table_in_force(write_policy: Write, bad: str) -> None:
    followed = store(write_policy(POLICY))
    good = followed.current
    write_policy(bad)
    followed.refresh()
    assert followed.current is good
    assert followed.problems

    write_policy(POLICY)
    followed.refresh()
    assert followed.problems == ()
    assert followed.current.revision == good.revision


def test_a_good_change_is_swapped_in(write_policy: Write) -> None:
    followed = store(write_policy(POLICY))
    before = followed.current
    write_policy(POLICY.replace("shop/*", "shop/api"))
    followed.refresh()
    assert verdict(followed) is Verdict.DENY
    assert followed.current.revision != before.revision
    assert decide(before.table, *GRANTED).verdict is Verdict.ALLOW, "a snapshot never changes"


def test_nothing_is_read_again_while_nothing_changes(write_policy: Write) -> None:
    followed = store(write_policy(POLICY))
    before = followed.current
    followed.refresh()
    assert followed.current is before


def test_the_swapped_link_of_a_config_map_is_followed(tmp_path: Path) -> None:
    """The kubelet's layout: files are links into ..data, which is a link that moves."""
    mount = tmp_path / "mount"
    for version, text in (("..1", POLICY), ("..2", POLICY.replace("shop/*", "shop/api"))):
        (mount / version).mkdir(parents=True)
        (mount / version / "policy.yaml").write_text(text)
    (mount / "..data").symlink_to("..1")
    (mount / "policy.yaml").symlink_to("..data/policy.yaml")
    followed = store(mount)
    assert verdict(followed) is Verdict.ALLOW

    (mount / "..new").symlink_to("..2")
    (mount / "..new").rename(mount / "..data")
    followed.refresh()
    assert verdict(followed) is Verdict.DENY


def test_a_rule_expires_when_the_day_changes(write_policy: Write) -> None:
    today = [TODAY]
    followed = PolicyStore(write_policy(POLICY), lambda: today[0])
    followed.refresh()
    assert verdict(followed, API) is Verdict.ALLOW
    today[0] += timedelta(days=1)
    followed.refresh()
    assert verdict(followed, API) is Verdict.DENY


def test_a_policy_that_disappears_stays_in_force(write_policy: Write) -> None:
    folder = write_policy(POLICY)
    followed = store(folder)
    shutil.rmtree(folder)
    followed.refresh()
    assert verdict(followed) is Verdict.ALLOW
    assert followed.problems


def test_the_revision_names_what_a_policy_says_not_how_it_is_written() -> None:
    revision = snapshot(policy(), TODAY).revision
    commented = policy("# a comment\n" + POLICY)
    other = policy(POLICY.replace("shop/*", "shop/api"))
    assert snapshot(commented, TODAY).revision == revision
    assert snapshot(other, TODAY).revision != revision
