"""Where in the policy files a thing was written, and what was found there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# A line and a column packed into one integer: a policy of 100,000 rules has millions of them.
_COLUMN_BITS = 16
_COLUMN_MASK = (1 << _COLUMN_BITS) - 1


@dataclass(frozen=True, slots=True)
class Where:
    """A position in a file, and those of the fields of what stands there.

    ``line`` and ``column`` count from 1. ``marks`` maps a field's YAML name to the packed position
    of its value, or to those of its items where it is a list of scalars.
    """

    file: str
    line: int
    column: int
    marks: tuple[tuple[str, int | tuple[int, ...]], ...] = ()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def field(self, name: str, index: int | None = None) -> Where:
        """Position of a field's value, or of one item of it; of the whole where it is absent."""
        mark = dict(self.marks).get(name)
        if isinstance(mark, tuple):
            mark = mark[index or 0] if mark else None
        if mark is None:
            return self
        return Where(self.file, mark >> _COLUMN_BITS, mark & _COLUMN_MASK)


NOWHERE = Where("<generated>", 1, 1)


def pack(line: int, column: int) -> int:
    """Pack a position for ``Where.marks``."""
    return line << _COLUMN_BITS | min(column, _COLUMN_MASK)


class Severity(StrEnum):
    """An error stops the compiler; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a policy.

    ``code`` is stable, for machines; ``rule`` names the rule concerned, where there is one.
    """

    severity: Severity
    code: str
    where: Where
    message: str
    rule: str | None = None

    def __str__(self) -> str:
        rule = f" {self.rule}:" if self.rule else ""
        return f"{self.where}: {self.severity}:{rule} {self.message} [{self.code}]"
