"""Reads a Dockerfile, as far as ours go."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Copy:
    """``source`` is in the checkout, or in a stage."""

    source: str
    target: str
    stage: str | None


@dataclass(slots=True)
class Stage:
    """One stage; ``steps`` are its commands and copies in order."""

    base: str
    name: str
    steps: list[str | Copy] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    entrypoint: list[str] = field(default_factory=list)


class UnreadError(Exception):
    """A Dockerfile says what is not read here yet."""


def stages(path: Path) -> list[Stage]:
    """The stages of a Dockerfile, in order.

    Raises:
        UnreadError: if there is an instruction in it that is not read here yet.
    """
    found: list[Stage] = []
    for word, rest in _instructions(path.read_text(encoding="utf-8")):
        if word == "FROM":
            base, *name = rest.split(" AS ")
            found.append(Stage(base, name[0] if name else ""))
        else:
            _take(found[-1], word, rest)
    return found


def _take(stage: Stage, word: str, rest: str) -> None:
    match word:
        case "RUN":
            stage.steps.append(rest)
        case "COPY":
            *options, source, target = rest.split()
            stages_named = [option.removeprefix("--from=") for option in options]
            stage.steps.append(Copy(source, target, stages_named[0] if options else None))
        case "ENV":
            stage.environment |= dict(item.split("=", 1) for item in shlex.split(rest))
        case "USER":
            stage.user = rest
        case "ENTRYPOINT":
            stage.entrypoint = json.loads(rest)
        case "EXPOSE":
            pass
        case _:
            raise UnreadError(f"{word} is not read here yet")


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.partition(" ")
        yield word, rest.strip()
