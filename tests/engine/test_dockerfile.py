"""The evaluator's image, as far as no container is needed to see it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions

from lab.images.dockerfile import CHECKOUT, Copy, Stage, stages

FOUND = stages(CHECKOUT / "engine/Dockerfile")
LOCKED = re.compile(r"^([a-z0-9][a-z0-9.-]*)==(\S+)", re.MULTILINE)


def locked(name: str) -> dict[str, str]:
    return dict(LOCKED.findall((CHECKOUT / name).read_text(encoding="utf-8")))


def copies(stage: Stage) -> list[Copy]:
    return [step for step in stage.steps if isinstance(step, Copy)]


def imported() -> Iterator[str]:
    """Top-level modules that ``zt`` and ``engine`` import."""
    for path in (*CHECKOUT.glob("zt/**/*.py"), *CHECKOUT.glob("engine/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (name.name.partition(".")[0] for name in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]


def test_bases_are_pinned_and_equal() -> None:
    (base,) = {stage.base for stage in FOUND}
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", base)


def test_it_runs_as_nobody_and_only_the_last_stage_is_shipped() -> None:
    built, shipped = FOUND
    assert shipped.user == "65532:65532"
    assert {copy.stage for copy in copies(shipped)} == {built.name}
    assert not any(isinstance(step, str) for step in shipped.steps)
    assert shipped.entrypoint == ["python", "-m", "engine"]


def test_what_is_copied_is_there_and_nothing_else_reaches_the_build() -> None:
    (built, _) = FOUND
    sources = {copy.source.rstrip("/") for copy in copies(built)}
    assert sources == {"zt", "engine", "requirements-engine.txt"}
    assert all((CHECKOUT / source).exists() for source in sources)
    ignored = (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    assert sources <= {line[1:] for line in ignored if line.startswith("!")}


def test_requirements_have_hashes_and_are_installed_by_them() -> None:
    text = (CHECKOUT / "requirements-engine.txt").read_text(encoding="utf-8")
    pins = re.split(r"\n(?=\S)", text)
    assert all("--hash=sha256:" in pin for pin in pins if LOCKED.match(pin))
    (install,) = (step for step in FOUND[0].steps if isinstance(step, str) and "install" in step)
    assert "--require-hashes" in install


def test_versions_are_those_that_are_tested_and_pulumi_is_none_of_them() -> None:
    engine, all_of_it = locked("requirements-engine.txt"), locked("requirements.txt")
    assert engine.items() <= all_of_it.items()
    assert not [name for name in engine if name.startswith("pulumi")]


def test_all_that_is_imported_is_installed() -> None:
    provided = packages_distributions()
    others = set(imported()) - sys.stdlib_module_names - {"zt", "engine"}
    engine = locked("requirements-engine.txt")
    lacking = {
        module
        for module in others
        if not any(name.lower().replace("_", "-") in engine for name in provided[module])
    }
    assert {"psycopg", "fastapi", "envoy"} <= others
    assert not lacking
