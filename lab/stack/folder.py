"""What the engine needs on disk, in one folder: its program, state, passphrase, configuration."""

from __future__ import annotations

import runpy
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pulumi import automation

PROJECT = "hanzo-zt"
ROOT = Path(__file__).resolve().parents[2]

Program = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The engine: its program, the folder that is its own, and what its environment says."""

    pulumi: Path
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def passphrase(self) -> Path:
        """The file with the passphrase that secrets in the state are encrypted with."""
        return self.folder / "passphrase"

    @property
    def state(self) -> Path:
        """Where the state is kept."""
        return self.folder / "state"

    @property
    def home(self) -> Path:
        """What the engine keeps for all stacks."""
        return self.folder / "home"

    @property
    def work(self) -> Path:
        """Where project and stacks are described."""
        return self.folder / "work"


def program() -> None:
    """The program of the checkout, as the command line runs it."""
    runpy.run_path(str(ROOT / "__main__.py"), run_name="__main__")


def opened(
    name: str,
    engine: Engine,
    configuration: Mapping[str, Any] | None = None,
    run: Program = program,
    root: Path = ROOT,
) -> automation.Stack:
    """A stack of the checkout, made if there is none yet.

    ``configuration`` is laid over the stack's file in ``stacks/``, by key without the project.

    Raises:
        automation.CommandError: if the engine can't.
    """
    _prepare(engine)
    _project(engine, root)
    _configure(engine, name, root, configuration or {})
    options = automation.LocalWorkspaceOptions(
        work_dir=str(engine.work),
        pulumi_home=str(engine.home),
        pulumi_command=automation.PulumiCommand(str(engine.folder)),
        secrets_provider="passphrase",
        env_vars={
            **engine.environment,
            # Attributes beside a state are written in two steps: a kill between them would lose it.
            "PULUMI_BACKEND_URL": f"{engine.state.as_uri()}?metadata=skip",
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(engine.passphrase),
            # Each save replaces the file in one step: a copy of the one before is of no use.
            "PULUMI_DIY_BACKEND_DISABLE_CHECKPOINT_BACKUPS": "true",
            "PULUMI_PARALLEL_DIFF": "true",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        },
    )
    return automation.create_or_select_stack(
        stack_name=name, project_name=PROJECT, program=run, opts=options
    )


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings as one, all the way down; ``over`` wins, and ``None`` there removes."""
    both = dict(under)
    for key, value in over.items():
        below = both.get(key)
        if value is None:
            both.pop(key, None)
        elif isinstance(value, Mapping):
            both[key] = merged(below if isinstance(below, Mapping) else {}, value)
        else:
            both[key] = value
    return both


def _prepare(engine: Engine) -> None:
    folders = (engine.state, engine.home, engine.work / "stacks", engine.folder / "bin")
    for folder in (engine.folder, *folders):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The engine writes a log of its own of each run, every property of every object in it: of large
    # stacks it would take more time than all else. Where no folder can be, it goes without.
    (engine.home / "logs").touch()
    # The Automation API wants the program by this name, and its folder on the PATH.
    link = engine.folder / "bin" / "pulumi"
    link.unlink(missing_ok=True)
    link.symlink_to(engine.pulumi)
    if not engine.passphrase.exists():
        engine.passphrase.touch(mode=0o600)
        engine.passphrase.write_text(secrets.token_urlsafe(32), encoding="ascii")


def _project(engine: Engine, root: Path) -> None:
    text = (root / "Pulumi.yaml").read_text(encoding="utf-8")
    (engine.work / "Pulumi.yaml").write_text(text, encoding="utf-8")


def _configure(engine: Engine, name: str, root: Path, configuration: Mapping[str, Any]) -> None:
    """Write the stack's file; what the engine added to it (the salt of its key) stays."""
    path = Path("stacks") / f"Pulumi.{name}.yaml"
    own = engine.work / path
    before = yaml.safe_load(own.read_text(encoding="utf-8")) if own.exists() else {}
    given = root / path
    document = yaml.safe_load(given.read_text(encoding="utf-8")) if given.exists() else {}
    over = {f"{PROJECT}:{key}": value for key, value in configuration.items()}
    config = merged(document.get("config") or {}, over)
    salt = {key: value for key, value in before.items() if key == "encryptionsalt"}
    own.write_text(yaml.safe_dump({**document, **salt, "config": config}), encoding="utf-8")
