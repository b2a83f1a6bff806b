"""The contracts of [tool.importlinter] hold: data flows one way."""

import configparser
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def rooms_that_exist(config: dict[str, Any]) -> dict[str, Any]:
    """The same contracts without the rooms that aren't built yet: import-linter refuses those."""
    rooms = config["root_packages"]
    missing = {room for room in rooms if not (ROOT / room / "__init__.py").exists()}

    def present(names: list[str]) -> list[str]:
        return [name for name in names if name not in missing]

    contracts = [
        contract | {"source_modules": present(contract.get("source_modules", []))}
        for contract in config["contracts"]
    ]
    return config | {
        "root_packages": present(rooms),
        "contracts": [c for c in contracts if c["type"] != "forbidden" or c["source_modules"]],
    }


def as_ini(config: dict[str, Any]) -> configparser.ConfigParser:
    """Import-linter's other configuration language, which the standard library can write."""

    def text(value: object) -> str:
        return "\n" + "\n".join(map(str, value)) if isinstance(value, list) else str(value)

    ini = configparser.ConfigParser(interpolation=None)
    ini["importlinter"] = {k: text(v) for k, v in config.items() if k != "contracts"}
    for contract in config["contracts"]:
        ini[f"importlinter:contract:{contract['id']}"] = {
            k: text(v) for k, v in contract.items() if k != "id" and v != []
        }
    return ini


def test_imports_go_one_way(tmp_path: Path) -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    path = tmp_path / "importlinter.ini"
    with path.open("w") as file:
        as_ini(rooms_that_exist(pyproject["tool"]["importlinter"])).write(file)
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [lint, "--no-logo", "--no-cache", "--config", path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        pytest.fail(f"{result.stdout}{result.stderr}", pytrace=False)
