"""Builds the policy in force, in a process of its own that ends when it is done.

Reading a large policy takes seconds and hundreds of megabytes; a worker that answers must not pay
for either. What is built lies in a folder by itself, to which the link ``current`` is then swapped;
``status.json`` says what is in force and what is wrong with a change that was left out.

Started by the supervisor, or by hand: ``python -m engine.builder POLICIES FOLDER``.
"""

from __future__ import annotations

import ipaddress
import logging
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import orjson

from engine.files import link_whole
from engine.http.documents import written
from engine.locate import Surroundings, surroundings
from engine.page.graph import declared
from engine.policy.changes import policy_files
from engine.policy.layout import Facts, encode
from engine.policy.rights import rights
from engine.policy.status import (
    CURRENT,
    GRAPH,
    INJECTION,
    SOURCES,
    TABLE,
    Status,
    read_status,
    write_status,
)
from engine.policy.table import Snapshot, Table, snapshot_from
from zt.check import check
from zt.compile.decisions import Decisions, read, revision
from zt.decide import decision_table
from zt.effective import effective
from zt.inject.needs import injection_of, to_text
from zt.load import load
from zt.memory import collector_paused
from zt.model import Policy
from zt.position import Severity

COMPILED = ".json"
_KEPT = 2
_MISUSE = 2

_log = logging.getLogger(__name__)


class BuildError(Exception):
    """The policy can't be used; ``problems`` are sentences."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        """Keep the problems; the message lists them."""
        self.problems = problems
        super().__init__("\n".join(problems))


def build(source: Path, folder: Path, today: date) -> Status:
    """Build what a path holds and put it in force; a bad policy leaves the last good one there."""
    folder.mkdir(parents=True, exist_ok=True)
    before = read_status(folder)
    try:
        made = _made(source, folder, today)
    except BuildError as error:
        for problem in error.problems:
            _log.error("policy revision %s stays in force: %s", before.revision, problem)
        after = before.refuse(error.problems)
    else:
        _log.info("policy revision %s is in force", made)
        after = before.put(made)
    write_status(folder, after)
    return after


def snapshot_of(policy: Policy, today: date) -> Snapshot:
    """The snapshot of a policy, in memory."""
    with collector_paused():
        return snapshot_from(Table(_encoded(policy, today)), None)


# --- Making ---------------------------------------------------------------------------------------


def _made(source: Path, folder: Path, today: date) -> str:
    """Put what a path holds in force; returns its revision."""
    with collector_paused():
        files = _compiled_files(source) if source.suffix == COMPILED else _files(source, today)
        version = folder / f"version-{time.time_ns()}"
        for name, content in files:
            (version / name).parent.mkdir(parents=True, exist_ok=True)
            (version / name).write_bytes(content)
    link_whole(folder / CURRENT, version.name)
    _forget(folder)
    return Table((version / TABLE).read_bytes()).facts.revision


def _compiled_files(source: Path) -> Iterator[tuple[str, bytes]]:
    """Of a ``decisions.json``: the table alone; nobody has a right, nothing can be explained."""
    try:
        found = read(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BuildError((f"{source}: {error}",)) from None
    facts = Facts(found.revision, _surroundings(found), {})
    yield TABLE, encode(found.table, facts)


def _surroundings(found: Decisions) -> Surroundings:
    pairs = (
        (ipaddress.ip_network(cidr), name)
        for name, cidrs in found.externals.items()
        for cidr in cidrs
    )
    ordered = sorted(pairs, key=lambda item: (-item[0].prefixlen, item[1]))
    pods = tuple(map(ipaddress.ip_network, found.pods))
    return Surroundings(tuple(ordered), pods, frozenset(found.gateways))


def _files(source: Path, today: date) -> Iterator[tuple[str, bytes]]:
    sources = list(_sources(source))
    policy = _read(source, today)
    yield TABLE, _encoded(policy, today)
    yield from written(policy, source, sources)
    resolved = effective(policy, today)
    yield GRAPH, orjson.dumps(declared(resolved))
    for cluster in policy.mesh.clusters:
        injection = to_text(injection_of(resolved, cluster.name))
        yield f"{INJECTION}/{cluster.name}.json", injection.encode()
    for name, content in sources:
        yield f"{SOURCES}/{name}", content


def _encoded(policy: Policy, today: date) -> bytes:
    table = decision_table(policy, today)
    named = revision(effective(policy, today), table)
    mine = {who: frozenset(actions) for who, actions in rights(policy).items()}
    return encode(table, Facts(named, surroundings(policy), mine))


def _read(source: Path, today: date) -> Policy:
    loaded = load(source)
    findings = loaded.findings
    if loaded.policy is not None:
        findings = (*findings, *check(loaded.policy, today))
    errors = tuple(str(item) for item in findings if item.severity is Severity.ERROR)
    if errors or loaded.policy is None:
        raise BuildError(errors)
    return loaded.policy


def _sources(source: Path) -> Iterator[tuple[str, bytes]]:
    """The files of a policy; what can't be read is ``load``'s to say."""
    for path in policy_files(source):
        name = path.name if path == source else str(path.relative_to(source))
        try:
            yield name, path.read_bytes()
        except OSError as error:
            _log.warning("%s cannot be kept for explanations: %s", path, error.strerror)


def _forget(folder: Path) -> None:
    """Remove versions but the latest: one more stays for whoever is opening it."""
    for old in sorted(folder.glob("version-*"))[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def main(arguments: list[str]) -> int:
    """Build once; 1 if the policy is bad."""
    if len(arguments) != _MISUSE:
        sys.stderr.write("usage: python -m engine.builder POLICIES FOLDER\n")
        return _MISUSE
    source, folder = map(Path, arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    return 1 if build(source, folder, datetime.now(UTC).date()).problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
