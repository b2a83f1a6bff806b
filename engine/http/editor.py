"""Makes one change of policy, in a process of its own: to read a large policy takes seconds.

``python -m engine.http.editor`` reads a line of JSON, answers with what the change would do (or why
it can't be made), and waits. It writes only when it is told ``commit``, so that whoever asked can
record the change before; if that one dies, nothing is written. No other change of the same policies
is made meanwhile.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from engine.http.edit import BODY, Change, ChangeRefused, Edited, Lines, edit
from engine.http.effects import difference, planes
from engine.http.sources import (
    BusyError,
    ConfigMapSource,
    FolderSource,
    ReadOnlyError,
    Source,
    SourceError,
    StaleError,
)
from engine.kubernetes.client import Kubernetes, KubernetesError, in_cluster
from zt.position import Finding
from zt.render.findings import findings_data

Json = dict[str, Any]
COMMIT = b"commit\n"


def main() -> int:
    """Serve one change on standard input and output."""
    return serve(sys.stdin.buffer, sys.stdout.buffer)


def serve(asked: BinaryIO, answers: BinaryIO) -> int:
    """Prepare a change, and make it when told to; 1 if it was refused, or not wanted after all."""
    try:
        for answer in _steps(orjson.loads(asked.readline())):
            answers.write(orjson.dumps(answer) + b"\n")
            answers.flush()
            if "prepared" in answer and asked.readline() != COMMIT:
                return 1
    except ChangeRefused as refused:
        answers.write(orjson.dumps({"refused": _refused(refused)}) + b"\n")
        return 1
    return 0


def _steps(request: Json) -> Iterator[Json]:
    today = date.fromisoformat(request["today"])
    tags = request["tags"]
    change = Change(
        name=request["name"],
        body=request["body"].encode(),
        is_json=request["is_json"],
        tags=None if tags is None else tuple(tags),
        kind=request["kind"],
    )
    try:
        source, lock = _source(request["source"])
        with lock:
            edited = edit(source.read(), change, today)
            yield {"prepared": _prepared(edited, today)}
            source.write(edited.file, edited.content)
            yield {"done": {"file": edited.file}}
    except SourceError as error:
        raise _as_refusal(error) from None


def _source(where: Json) -> tuple[Source, AbstractContextManager[None]]:
    source: FolderSource | ConfigMapSource
    if "config_map" in where:
        source = ConfigMapSource(_kubernetes(where), **where["config_map"])
    else:
        source = FolderSource(Path(where["path"]))
    return source, source.locked()


def _kubernetes(where: Json) -> Kubernetes:
    """The API server: the pod's own, or the one that is named."""
    try:
        given = where.get("kubernetes")
        if given is None:
            return in_cluster(os.environ)
        return Kubernetes(given["host"], given["port"], Path(given["folder"]))
    except KubernetesError as error:
        raise SourceError(str(error)) from None


def _prepared(edited: Edited, today: date) -> Json:
    return {
        "file": edited.file,
        "etag": edited.tag,
        "warnings": _findings(edited.warnings, edited.lines),
        "diff": difference(edited.old, edited.new, today),
        "planes": planes(edited.old, edited.new, today),
    }


def _findings(findings: tuple[Finding, ...], lines: Lines) -> list[Json]:
    """Findings as ``zt check --json`` has them; ``bodyLine`` where they are about the body."""
    return [
        data | {"bodyLine": _body_line(finding, lines)}
        for finding, data in zip(findings, findings_data(findings), strict=True)
    ]


def _body_line(finding: Finding, lines: Lines) -> int | None:
    where = finding.where
    return where.line if where.file == BODY else lines.get((where.file, where.line))


def _refused(refused: ChangeRefused) -> Json:
    return {
        "status": refused.status,
        "code": refused.code,
        "detail": refused.detail,
        "findings": _findings(refused.findings, refused.lines),
    }


def _as_refusal(error: SourceError) -> ChangeRefused:
    if isinstance(error, StaleError):
        return ChangeRefused(412, "stale", str(error))
    if isinstance(error, ReadOnlyError):
        return ChangeRefused(409, "read-only", str(error))
    if isinstance(error, BusyError):
        return ChangeRefused(503, "busy", str(error))
    return ChangeRefused(503, "source-unavailable", str(error))


if __name__ == "__main__":
    sys.exit(main())
