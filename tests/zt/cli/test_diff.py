import json
import subprocess
from pathlib import Path

import pytest

from tests.zt.cli.conftest import SMALL, Run


@pytest.fixture
def wider(tmp_path: Path) -> Path:
    """The small policy, in which the shop may call the evaluator as well."""
    path = tmp_path / "wider.yaml"
    more = "        - {spiffe: spiffe://hanzo.ai/east/web/zt-policy-engine, ports: [8054]}\n"
    path.write_text(SMALL.replace("          ports: [5432]\n", f"          ports: [5432]\n{more}"))
    return path


def test_nothing_new_exits_with_zero(run: Run, small: Path) -> None:
    assert run("diff", small, small).exit_code == 0


def test_who_is_newly_reachable_is_named_and_the_exit_code_says_so(
    run: Run, small: Path, wider: Path
) -> None:
    there, back = run("diff", small, wider), run("diff", wider, small)

    assert (there.exit_code, back.exit_code) == (1, 1)
    assert there.output.startswith("1 newly reachable.\n")
    assert "\n+ shop    zt-policy-engine  8054  rules/rule-1  " in there.output
    assert back.output.startswith("1 no longer reachable.\n")


def test_json_and_markdown_tell_the_same(run: Run, small: Path, wider: Path) -> None:
    answer = json.loads(run("diff", "--json", small, wider).output)
    text = run("diff", "--format", "md", small, wider).output

    (gained,) = answer["gained"]
    assert gained["source"] == "spiffe://hanzo.ai/east/web/shop"
    assert gained["rule"] == "rules/rule-1"
    assert "| shop | zt-policy-engine | 8054 | rules/rule-1 |" in text


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)  # noqa: S607


@pytest.fixture
def repository(tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose HEAD holds the small policy in policies/."""
    hidden = small / ".hidden"
    hidden.mkdir()
    (hidden / "not.yaml").write_text("not a policy")
    (small / "README.md").write_text("not YAML")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "revision", ["HEAD:policies", "HEAD:policies/", "HEAD:policies/all.yaml", "HEAD:"]
)
def test_a_revision_is_read_without_a_checkout(
    run: Run, repository: Path, wider: Path, revision: str
) -> None:
    (repository / "policies" / "all.yaml").write_text("changed since")

    assert run("diff", revision, "HEAD:policies").exit_code == 0
    found = run("diff", revision, wider)
    assert found.exit_code == 1
    assert "1 newly reachable." in found.output


def test_a_revision_is_found_from_a_folder_of_the_repository(
    run: Run, repository: Path, wider: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository / "policies")

    assert run("diff", "HEAD:policies", wider).exit_code == 1
    assert run("diff", "HEAD:./", "all.yaml").exit_code == 0


@pytest.mark.parametrize(
    ("revision", "message"),
    [
        ("HEAD:nowhere", "'HEAD:nowhere' cannot be read: path 'nowhere' does not exist in 'HEAD'"),
        ("nowhere:policies", "'nowhere:policies' cannot be read: invalid object name 'nowhere'."),
        ("HEAD:policies/.hidden", "'HEAD:policies/.hidden' cannot be read"),
        ("-x:policies", "No such option"),
    ],
)
def test_a_revision_that_cannot_be_read_is_misuse(
    run: Run, repository: Path, revision: str, message: str
) -> None:
    if revision == "HEAD:policies/.hidden":
        git(repository, "mv", "policies/.hidden/not.yaml", "policies/.hidden/not.txt")
        git(repository, "commit", "--quiet", "--message", "second")
        message = "'HEAD:policies/.hidden' holds no .yaml file"

    found = run("diff", revision, "policies")

    assert found.exit_code == 2
    assert message in found.output


def test_a_link_is_misuse_because_it_leads_out_of_the_revision(run: Run, repository: Path) -> None:
    (repository / "policies" / "link.yaml").symlink_to("all.yaml")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "second")

    found = run("diff", "HEAD:policies", "policies")

    assert found.exit_code == 2
    assert "HEAD:policies/link.yaml is a link" in found.output


def test_without_git_a_sentence_says_so(
    run: Run, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(repository))

    found = run("diff", "HEAD:policies", "policies")

    assert found.exit_code == 2
    assert "needs git, which is not on the PATH" in found.output


def test_a_broken_policy_at_a_revision_is_a_finding(run: Run, repository: Path) -> None:
    (repository / "policies" / "all.yaml").write_text("kind: Mesh\n")
    git(repository, "commit", "--quiet", "--all", "--message", "broken")

    found = run("diff", "HEAD:policies", "HEAD~:policies")

    assert found.exit_code == 1
    assert "HEAD:policies/all.yaml:1:1: error: apiVersion should be" in found.output
