import json
from pathlib import Path

from tests.zt.cli.conftest import Run


def test_the_real_policy_is_good(run: Run) -> None:
    found = run("check")

    assert found.exit_code == 0
    assert found.output == ("policies: 18 services, 15 rules, 32 grants, 0 errors, 0 warnings\n")


def test_all_findings_are_printed_with_their_position(run: Run, small: Path) -> None:
    text = (small / "all.yaml").read_text()
    (small / "all.yaml").write_text(text.replace("[80]", "[81]").replace("[8054]", "[8055]"))

    found = run("check", small)

    assert found.exit_code == 1
    lines = found.output.splitlines()
    assert sum(line.startswith(f"{small}/all.yaml:") and ": error:" in line for line in lines) == 2
    assert lines[-1].endswith("2 rules, 1 grant, 2 errors, 0 warnings")


def test_what_cannot_be_read_is_a_finding(run: Run, tmp_path: Path) -> None:
    found = run("check", tmp_path / "nowhere")

    assert found.exit_code == 1
    assert "cannot be read: No such file or directory [unreadable]" in found.output


def test_warnings_count_where_it_is_strict(run: Run, small: Path) -> None:
    text = (small / "all.yaml").read_text()
    rule = "    - from: {spiffe: spiffe://hanzo.ai/east/web/shop}\n"
    (small / "all.yaml").write_text(text.replace(rule, f"{rule}      expires: 2026-01-31\n"))

    lenient = run("check", small, "--today", "2026-02-01")
    strict = run("check", "--strict", small, "--today", "2026-02-01")
    before = run("check", "--strict", small, "--today", "2025-01-31")

    assert (lenient.exit_code, strict.exit_code, before.exit_code) == (0, 1, 0)
    assert "warning: rules/rule-1:" in lenient.output
    assert lenient.output == strict.output


def test_json_has_the_findings_and_the_counts(run: Run, small: Path) -> None:
    text = (small / "all.yaml").read_text()
    (small / "all.yaml").write_text(text.replace("[80]", "[81]"))

    found = run("check", "--json", small)

    answer = json.loads(found.output)
    assert found.exit_code == 1
    assert {name: answer[name] for name in ("errors", "warnings", "services", "rules")} == {
        "errors": 1,
        "warnings": 0,
        "services": 3,
        "rules": 2,
    }
    (finding,) = answer["findings"]
    assert finding["file"] == str(small / "all.yaml")
    assert finding["line"] == 35
    assert finding["rule"] == "rules/rule-2"
