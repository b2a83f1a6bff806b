import json
from pathlib import Path

import pytest

from tests.strategies import TODAY
from tests.zt.cli.conftest import Run
from zt.cli.outdir import MANIFEST
from zt.compile import compile_policy
from zt.load import load_policy


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "build" / "east"


def test_the_folder_holds_the_bundle_and_nothing_else(run: Run, small: Path, out: Path) -> None:
    found = run("compile", "--cluster", "east", "--out", out, small, "--today", TODAY)

    assert found.exit_code == 0
    bundle = compile_policy(load_policy(small), "east", TODAY)
    assert contents(out) == {file.path: file.text() for file in bundle.files}
    assert found.output == f"{out}: {len(bundle.files)} files for east\n"


def test_json_lists_the_files_and_their_digest(run: Run, small: Path, out: Path) -> None:
    arguments = ("compile", "--cluster", "east", "--out", out, "--json", small)
    first, second = (json.loads(run(*arguments).output) for _ in range(2))

    assert first == second
    assert sorted(contents(out)) == first["files"]


def test_files_of_an_earlier_run_go_and_leave_no_empty_folder(
    run: Run, small: Path, out: Path
) -> None:
    run("compile", "--cluster", "east", "--out", out, small)
    before = set(contents(out))
    text = (small / "all.yaml").read_text()
    start = text.index("    - from: {spiffe: spiffe://hanzo.ai/east/web/shop}")
    end = text.index("    - from: {spiffe: spiffe://hanzo.ai/east/web/db}")
    renamed = text[:start] + text[end:]
    renamed = renamed.replace("name: shop}", "name: store}").replace("web/shop", "web/store")
    (small / "all.yaml").write_text(renamed)

    found = run("compile", "--cluster", "east", "--out", out, small)

    assert found.exit_code == 0, found.output
    gone = before - set(contents(out))
    assert any(path.startswith("envoy/shop/") for path in gone)
    assert not (out / "envoy" / "shop").exists()
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == [MANIFEST]


def test_a_folder_with_files_of_others_is_left_alone(run: Run, small: Path, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "mine.txt").write_text("mine")

    found = run("compile", "--cluster", "east", "--out", out, small)

    assert found.exit_code == 2
    assert f"{out} holds mine.txt, which zt did not write" in found.output
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_a_file_added_to_our_folder_is_not_lost(run: Run, small: Path, out: Path) -> None:
    run("compile", "--cluster", "east", "--out", out, small)
    before = contents(out)
    (out / "envoy" / "notes.txt").write_text("mine")

    found = run("compile", "--cluster", "east", "--out", out, small)

    assert found.exit_code == 2
    assert contents(out) == before | {"envoy/notes.txt": "mine"}


def test_a_run_that_was_interrupted_is_put_right(run: Run, small: Path, out: Path) -> None:
    run("compile", "--cluster", "east", "--out", out, small)
    whole = contents(out)
    (out / ".zt-incoming" / "envoy").mkdir(parents=True)
    (out / ".zt-incoming" / "envoy" / "half").write_text("half")
    next(path for path in out.rglob("*.yaml")).unlink()

    assert run("compile", "--cluster", "east", "--out", out, small).exit_code == 0

    assert contents(out) == whole


def test_a_file_is_no_folder(run: Run, small: Path) -> None:
    found = run("compile", "--cluster", "east", "--out", small / "all.yaml", small)

    assert found.exit_code == 2
    assert "is a file: name a folder" in found.output


def test_an_unknown_cluster_is_misuse_and_the_nearest_is_named(
    run: Run, small: Path, out: Path
) -> None:
    found = run("compile", "--cluster", "eats", "--out", out, small)

    assert found.exit_code == 2
    assert "did you mean 'east'?" in found.output
    assert not out.exists()


def test_a_policy_with_errors_is_not_compiled(run: Run, small: Path, out: Path) -> None:
    text = (small / "all.yaml").read_text()
    (small / "all.yaml").write_text(text.replace("[80]", "[81]"))

    found = run("compile", "--cluster", "east", "--out", out, small)

    assert found.exit_code == 1
    assert ": error: rules/rule-2:" in found.output
    assert not out.exists()
