"""Findings as text and as JSON values; apart from the rest, because ``zt check`` needs no more."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zt.position import Finding


def findings_text(findings: Iterable[Finding]) -> str:
    """A line for each finding: ``file:line:column: severity: message [code]``."""
    return "".join(f"{finding}\n" for finding in findings)


def findings_data(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Findings with their positions."""
    return [
        {
            "severity": finding.severity,
            "code": finding.code,
            "file": finding.where.file,
            "line": finding.where.line,
            "column": finding.where.column,
            "rule": finding.rule,
            "message": finding.message,
        }
        for finding in findings
    ]
