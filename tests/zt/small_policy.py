"""A small policy with something of everything, and what is found in changed copies of it."""

from datetime import date
from pathlib import Path

import yaml

from zt.check import check
from zt.load import load_texts

DATA = Path(__file__).parent / "data"
POLICY = (DATA / "policy.yaml").read_text(encoding="utf-8")
TODAY = date(2026, 11, 23)


def findings(text: str | bytes) -> list[str]:
    """All findings of a policy file."""
    data = text if isinstance(text, bytes) else text.encode()
    loaded = load_texts([("policy.yaml", data)])
    if loaded.policy is None:
        return [str(finding) for finding in loaded.findings]
    return [str(finding) for finding in check(loaded.policy, TODAY)]


def changed(old: str, new: str) -> str:
    """The small policy with one place changed."""
    assert old in POLICY
    return POLICY.replace(old, new, 1)


def table(name: str) -> dict[str, tuple[str, list[str]]]:
    """The cases of a table: the changed policy and the expected findings, by name."""
    rows = yaml.safe_load((DATA / name).read_text(encoding="utf-8"))
    cases = {
        row["name"]: (changed(row["old"], row["new"]), row["findings"].splitlines()) for row in rows
    }
    assert len(cases) == len(rows)
    return cases
