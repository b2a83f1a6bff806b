"""Images of this project's own code, by the steps of its Dockerfiles upon the lab's Debian."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from lab.images import steps
from lab.images.archive import Blob, Image, Settings, image
from lab.images.dockerfile import CHECKOUT, Copy, Stage, stages
from lab.images.layers import Workshop, digest
from lab.images.steps import PATH, Step, Steps, must
from lab.services import program
from lab.tools.build import tool

EVALUATOR, GATEWAY, SERVICE = "zt.lab/evaluator:lab", "zt.lab/gateway:lab", "zt.lab/service:lab"
_DOCKERFILES = {EVALUATOR: CHECKOUT / "engine/Dockerfile", GATEWAY: CHECKOUT / "gateway/Dockerfile"}
# What stages upon Go's own image build, and where: here this machine's Go does.
_GO, _IN_GO = "golang:", {"wireguard": ("wireguard-go", "/opt/wireguard/wireguard-go")}
# What Debian's Python takes.
_PYTHON = "3.11"
_COMPILE = "python3 -m compileall -q --invalidation-mode unchecked-hash"


def commands() -> Iterator[str]:
    """All commands of the Dockerfiles."""
    for path in _DOCKERFILES.values():
        for stage in stages(path):
            yield from (step for step in stage.steps if isinstance(step, str))


def evaluator(shop: Workshop, debian: Step) -> Image:
    """The evaluator, and the programs of Jobs."""
    return _of(shop, EVALUATOR, stages(_DOCKERFILES[EVALUATOR]), debian)


def gateway(shop: Workshop, debian: Step) -> Image:
    """The gateway, and what else runs ``nft`` or fetches keys."""
    return _of(shop, GATEWAY, stages(_DOCKERFILES[GATEWAY]), debian)


def service(shop: Workshop, debian: Step) -> Image:
    """What the services of the lab's teams run."""
    copies = [Copy(name, f"{program.FOLDER}/{name}", None) for name in program.FILES]
    code = Stage("debian", "code", [*copies, f"{_COMPILE} {program.FOLDER}"])
    shipped = Stage("debian", "", [Copy(program.FOLDER, program.FOLDER, "code")], user="1000:1000")
    return _of(shop, SERVICE, [code, shipped], debian)


def _wheels(shop: Workshop, requirements: Path) -> Path:
    """A folder of wheels, fetched by this machine's pip."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes"]
    which = ["--only-binary", ":all:", "--python-version", _PYTHON]
    source = ["--requirement", str(requirements)]
    key = digest(requirements.read_text(), _PYTHON)
    return shop.made(
        f"wheels/{key}",
        lambda folder: must(
            [*pip, *which, *source, "--dest", str(folder)],
            f"the packages of {requirements} can't be fetched",
        ),
    )


def _of(shop: Workshop, name: str, found: list[Stage], debian: Step) -> Image:
    named: dict[str, Steps] = {}
    for stage in found:
        named[stage.name] = _steps(shop, stage, debian, named)
    shipped, short = found[-1], name.partition("/")[2].partition(":")[0]
    environment = {"PATH": PATH, **shipped.environment}
    settings = Settings(
        entrypoint=tuple(shipped.entrypoint), environment=environment, user=shipped.user
    )
    return image(name, _layers(shop, short, named[shipped.name]), settings)


def _steps(shop: Workshop, stage: Stage, debian: Step, named: Mapping[str, Steps]) -> Steps:
    if stage.base.startswith(_GO):
        name, target = _IN_GO[stage.name]
        return (steps.placed(shop, tool(name), target),)
    wheels = next((_wheels(shop, path) for path in _requirements(stage)), None)
    return steps.done(shop, stage, (debian,), named, wheels)


def _requirements(stage: Stage) -> Iterator[Path]:
    """What a stage's packages are pinned in."""
    for step in stage.steps:
        if isinstance(step, Copy) and step.source.startswith("requirements"):
            yield CHECKOUT / step.source


def _layers(shop: Workshop, name: str, made: Steps) -> tuple[Blob, ...]:
    base, *others = made
    return (steps.blob(shop, "debian", base), *(steps.blob(shop, name, step) for step in others))
