"""Commands of a Dockerfile, done in folders laid over one another."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from lab.cluster.model import LabError
from lab.images import programs, steps
from lab.images.build import missing
from lab.images.debian import debian, pinned
from lab.images.dockerfile import Copy, Stage
from lab.images.layers import Workshop
from lab.images.ours import commands
from lab.images.steps import Step
from lab.tools.build import cache_folder

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def root() -> Step:
    if missing():
        pytest.skip(f"lacks {', '.join(missing())}")
    shop = Workshop(cache_folder() / "images", lambda _: None)
    with shop.alone():
        return debian(shop, pinned(commands()), programs.POSTGRES_PACKAGES)[0]


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path, lambda _: None)


def test_commands_see_what_came_before_and_copies_take_only_what_they_name(
    root: Step, shop: Workshop
) -> None:
    built = Stage("debian", "built", ["mkdir /opt/a", "echo $WORD > /opt/a/word", "touch /opt/b"])
    built.environment["WORD"] = "said"
    named = {"built": steps.done(shop, built, (root,), {}, None)}
    shipped = Stage("debian", "", [Copy("/opt/a/", "/srv/", "built")])
    (_, copied) = steps.done(shop, shipped, (root,), named, None)
    with tarfile.open(steps.blob(shop, "it", copied).content) as archive:
        assert [item.name for item in archive if item.isfile()] == ["./srv/word"]
        word = archive.extractfile("./srv/word")
        assert word is not None
        assert word.read() == b"said\n"


def test_nothing_is_left_mounted(root: Step, shop: Workshop) -> None:
    steps.done(shop, Stage("debian", "", ["true"]), (root,), {}, None)
    assert str(shop.folder) not in Path("/proc/self/mounts").read_text()


def test_what_a_step_does_not_touch_is_not_made_again(root: Step, shop: Workshop) -> None:
    def copied(last: str) -> Step:
        built = Stage("debian", "built", ["mkdir /opt/a", "echo one > /opt/a/word", last])
        named = {"built": steps.done(shop, built, (root,), {}, None)}
        stage = Stage("debian", "", [Copy("/opt/a", "/srv", "built")])
        return steps.done(shop, stage, (root,), named, None)[-1]

    assert copied("touch /opt/b") == copied("touch /opt/c")
    assert copied("touch /opt/a/more") != copied("touch /opt/c")


def test_a_command_that_fails_is_said_and_done_again(root: Step, shop: Workshop) -> None:
    for _ in range(2):
        with pytest.raises(LabError, match="cat /none fails: cat: /none"):
            steps.done(shop, Stage("debian", "", ["cat /none"]), (root,), {}, None)


def test_no_command_has_a_network_of_names(root: Step, shop: Workshop) -> None:
    """What it needs was fetched before: pip finds nothing elsewhere."""
    failing = Stage("debian", "", ["python3 -m venv /v", "/v/bin/pip install -q hvac"])
    with pytest.raises(LabError, match="No matching distribution"):
        steps.done(shop, failing, (root,), {}, None)


def test_what_is_removed_from_below_is_refused(root: Step, shop: Workshop) -> None:
    (*_, removing) = steps.done(shop, Stage("debian", "", ["rm /etc/passwd"]), (root,), {}, None)
    with pytest.raises(LabError, match="removes files"):
        steps.blob(shop, "it", removing)
