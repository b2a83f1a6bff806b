"""The group of commands, and ``zt`` as a program."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tests.zt.cli.conftest import Run
from zt.cli import app

COMMANDS = ("check", "compile", "diff", "evaluate", "explain", "graph", "schema")
PROGRAM = [sys.executable, "-c", "from zt.cli import main; main()"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_json(run: Run, command: str) -> None:
    found = run(command, "--help")

    assert found.exit_code == 0
    assert f"  Example:\n    zt {command}" in found.output
    assert "--json" in found.output
    assert "--today" not in found.output


def test_the_schema_is_the_one_for_editors(run: Run) -> None:
    assert json.loads(run("schema").output)["title"] == "Hanzo ZT policy"


def test_an_unknown_command_is_misuse_and_the_nearest_is_named(run: Run) -> None:
    found = run("chek")

    assert found.exit_code == 2
    assert "zt has no command 'chek' (did you mean 'check'?)" in found.output


def extensions(monkeypatch: pytest.MonkeyPatch, **found: str) -> None:
    points = {name: EntryPoint(name, value, "zt.commands") for name, value in found.items()}
    monkeypatch.setattr(app, "_extensions", lambda: points)


def test_a_command_of_another_room_is_found_by_its_entry_point(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    extensions(monkeypatch, other="zt.cli.schema:command")

    assert run("other").output == run("schema").output
    assert "  other     Print the JSON Schema of policies.\n" in run("--help").output


def test_where_nothing_is_installed_a_sentence_says_how(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    extensions(monkeypatch)

    found = run("mesh")

    assert found.exit_code == 2
    assert "come with an installed zt: run `make setup`" in found.output


def test_a_command_that_cannot_be_imported_says_so_and_spoils_no_other(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    extensions(monkeypatch, mesh="nowhere.at.all:mesh")

    found = run("mesh", "up", "--fast")

    assert found.exit_code == 2
    assert "zt mesh is not usable here (No module named 'nowhere')" in found.output
    assert run("--help").exit_code == 0
    assert run("check").exit_code == 0


def program(*arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [*PROGRAM, *arguments], capture_output=True, text=True, check=False, **options
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["check"], 0),
        (["check", "nowhere"], 1),
        (["explain", "--from", "chat", "--to", "postgres", "--port", "5432", "--json"], 1),
        (["explain", "--from", "chat"], 2),
        (["compile", "--cluster", "nowhere", "--out", "/nonexistent"], 2),
        (["nonsense"], 2),
    ],
)
def test_exit_codes_of_the_program(arguments: list[str], code: int) -> None:
    found = program(*arguments)

    assert found.returncode == code
    assert "Traceback" not in found.stderr
    if "--json" in arguments:
        json.loads(found.stdout)


def test_check_imports_nothing_that_it_does_not_need() -> None:
    script = "import sys; from zt.cli import zt; zt.main(['check'], standalone_mode=False)"
    modules = f"{script}; print(*sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", modules], capture_output=True, text=True, check=True
    )

    heavy = {"rich", "difflib", "jsonschema", "hashlib", "json", "importlib.metadata", "asyncio"}
    assert not heavy & set(done.stdout.split())


def test_who_stops_reading_ends_it_quietly(small: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [*PROGRAM, "graph", str(small)],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert done.returncode == 141
    assert done.stderr == ""


@pytest.fixture
def evaluating(small: Path) -> "Iterator[subprocess.Popen[str]]":
    """``zt evaluate``, waiting for requests."""
    # Tests that run in the background have SIGINT ignored, and their children as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        [*PROGRAM, "evaluate", str(small)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def ask(process: "subprocess.Popen[str]") -> str:
    assert process.stdin
    assert process.stdout
    process.stdin.write("{}\n")
    process.stdin.flush()
    return process.stdout.readline()


def test_each_request_is_answered_before_the_next_comes(
    evaluating: "subprocess.Popen[str]",
) -> None:
    assert '"line": 1' in ask(evaluating)
    assert '"line": 2' in ask(evaluating)


def test_control_c_ends_it_with_130_and_no_traceback(evaluating: "subprocess.Popen[str]") -> None:
    ask(evaluating)

    evaluating.send_signal(signal.SIGINT)

    assert evaluating.wait(timeout=20) == 130
    assert evaluating.stderr
    assert "Traceback" not in evaluating.stderr.read()
