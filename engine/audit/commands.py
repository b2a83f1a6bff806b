"""``zt audit``: read, export and verify the audit trail."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from functools import wraps
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import Any, ParamSpec, TypedDict, TypeVar, Unpack

import click
import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from engine.audit import checkpoint
from engine.audit.checkpoint import Checkpoint, CheckpointError, read_public_key
from engine.audit.evidence import Evidence
from engine.audit.export import audit_json, new_file, timestamp, write_lines
from engine.audit.outcome import AuditRecord, clean
from engine.audit.reader import AuditReader, Cursor, Query, parse_cursor
from engine.audit.verify import KEPT_DAYS, Finding, Summary, verify
from zt.cli.inputs import example, json_option
from zt.cli.output import Misuse, say, say_json
from zt.decide import Verdict

_P = ParamSpec("_P")
_R = TypeVar("_R")
_F = TypeVar("_F", bound=Callable[..., Any])

_VARIABLE = "ZT_AUDIT_DSN"
_MAX_PAGE = 1000
_FINDINGS = 1
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO = re.compile(r"(\d{1,6})([smhdw])")
_SUMMARY = tuple(field.name for field in fields(Summary))
_TELL_SECONDS = 0.5
_TELL_LOG_SECONDS = 30.0


class Filters(TypedDict):
    """The options that say which records."""

    since: datetime | None
    until: datetime | None
    verdict: Verdict | None
    source: str | None
    destination: str | None
    rule: str | None
    pod: str | None
    layer: str | None
    reason: str | None


class _Moment(click.ParamType[datetime]):
    name = "time"

    def convert(
        self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """A time of RFC 3339, a day, or how long ago; UTC where no zone is given."""
        if isinstance(value, datetime):
            return value
        ago = _AGO.fullmatch(value)
        try:
            if ago:
                return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            time = datetime.fromisoformat(value)
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is not a time such as 2027-01-31T08:00:00Z, 2027-01-31, or 2h for two "
                "hours ago",
                param,
                ctx,
            )


_FILTERS = (
    click.option("--since", type=_Moment(), help="Not before: a time, a day, or 2h, 7d ago."),
    click.option("--until", type=_Moment(), help="Before that time."),
    click.option(
        "--verdict",
        type=click.Choice(Verdict, case_sensitive=False),
        help="What was decided.",
    ),
    click.option("--source", help="SPIFFE ID of who called; '' where none was presented."),
    click.option("--destination", help="SPIFFE ID of who was called."),
    click.option("--rule", help="The rule that matched, such as core/rule-1 or default."),
    click.option("--pod", help="The pod that called."),
    click.option("--layer", help="Who decided: evaluator, handshake, rbac, listener or api."),
    click.option("--reason", help="Why."),
)


def _filter_options(command: _F) -> _F:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def _one_sentence(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """What goes wrong is said in one sentence, with exit code 2."""

    @wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return command(*args, **kwargs)
        except psycopg.Error as error:
            raise Misuse(_sentence(error)) from None
        except CheckpointError as error:
            raise Misuse(str(error)) from None

    return run


@click.group()
def audit() -> None:
    """Read, export and verify the audit trail of decisions.

    \b
    The database is the one that ZT_AUDIT_DSN names; a role that may read suffices. Examples:
      zt audit query --verdict DENY --since 2h
      zt audit export --since 2027-01-01 --until 2027-02-01 january.ndjson.gz
      zt audit verify --checkpoints checkpoints/ --key audit.pub
    """  # noqa: D301 - \b keeps click from joining the lines


@audit.command(epilog=example("zt audit query --verdict DENY --since 2h"))
@_filter_options
@click.option(
    "--limit",
    type=click.IntRange(1, _MAX_PAGE),
    default=50,
    show_default=True,
    help="How many at most.",
)
@click.option("--cursor", help="Where an earlier page said that the next begins.")
@json_option
@_one_sentence
def query(*, limit: int, cursor: str | None, as_json: bool, **filters: Unpack[Filters]) -> None:
    """Show decisions, the latest first."""
    asked = _query(filters, limit, cursor)
    records = asyncio.run(_page(_dsn(), asked))
    more = str(Cursor(records[-1].time, records[-1].id)) if len(records) == limit else None
    if as_json:
        say_json({"records": [audit_json(record) for record in records], "next": more})
        return
    say("".join(f"{line}\n" for line in _table(records)))
    if more:
        click.echo(f"there may be more: --cursor {more}", err=True)


@audit.command(epilog=example("zt audit export --since 24h yesterday.ndjson.gz"))
@_filter_options
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True), default="-")
@_one_sentence
def export(*, file: str, **filters: Unpack[Filters]) -> None:
    """Write decisions to FILE, a line of JSON each, the latest first.

    FILE appears once it is whole, compressed if its name ends in .gz. Without it they go to
    standard output.
    """
    asked, dsn = _query(filters), _dsn()
    if file == "-":
        count = asyncio.run(_export(dsn, asked, sys.stdout.buffer))
        sys.stdout.buffer.flush()
    else:
        count = _export_to_file(dsn, asked, Path(file))
    click.echo(_count(count, "record"), err=True)


@audit.command(
    "verify", epilog=example("zt audit verify --checkpoints checkpoints/ --key audit.pub")
)
@click.option(
    "--checkpoints",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of signed checkpoints.",
)
@click.option(
    "--key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Public key of who signs them (Ed25519, PEM).",
)
@click.option(
    "--kept-days",
    type=click.IntRange(1),
    default=KEPT_DAYS,
    show_default=True,
    help="Days within which no record may be gone.",
)
@json_option
@_one_sentence
def verify_command(
    *, checkpoints: Path | None, key: Path | None, kept_days: int, as_json: bool
) -> None:
    """Prove that the trail is what was written, or say what is not.

    Hashes are computed anew from the rows; counts, order, times and chain are compared. Without
    checkpoints whoever owns the database could have rewritten the whole chain. Exit code 1 if
    anything is wrong.
    """
    signed = _signed(checkpoints, key)
    summary = Summary()
    with _evidence(_dsn()) as evidence, _progress() as progress:
        findings = verify(evidence, signed, summary, kept_days=kept_days, progress=progress)
        (_say_findings_json if as_json else _say_findings)(findings, summary)
    if summary.findings:
        click.get_current_context().exit(_FINDINGS)


def _signed(folder: Path | None, key: Path | None) -> Iterator[Checkpoint]:
    """The checkpoints of a folder; one is read ahead, so that an empty folder is no proof.

    Raises:
        Misuse: if there is none, or half of what is needed.
    """
    if folder is None and key is None:
        return iter(())
    if folder is None or key is None:
        raise Misuse("--checkpoints and --key belong together: the folder, and who signs there")
    signed = checkpoint.read(folder, read_public_key(key))
    first = next(signed, None)
    if first is None:
        raise Misuse(f"{folder} holds no checkpoints")
    return chain([first], signed)


def _dsn() -> str:
    """The DSN, from the environment alone, because it may carry a password.

    Raises:
        Misuse: if there is none; what it says is never shown.
    """
    dsn = os.environ.get(_VARIABLE)
    if not dsn:
        raise Misuse(f"{_VARIABLE} is not set: give the audit database's DSN of a role that reads")
    try:
        conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise Misuse(
            f"{_VARIABLE} is no DSN, such as postgresql://reader@db.example/zt_audit"
        ) from None
    return dsn


def _query(filters: Filters, limit: int = _MAX_PAGE, cursor: str | None = None) -> Query:
    try:
        after = parse_cursor(cursor) if cursor else None
    except ValueError as error:
        raise Misuse(str(error)) from None
    return Query(**filters, after=after, limit=limit)


async def _page(dsn: str, asked: Query) -> list[AuditRecord]:
    reader = AuditReader(dsn)
    try:
        return await reader.records(asked)
    finally:
        await reader.close()


async def _export(dsn: str, asked: Query, file: Any) -> int:  # noqa: ANN401 - as open() gives it
    reader = AuditReader(dsn, stream_page=_MAX_PAGE)
    try:
        async with aclosing(reader.stream(asked)) as records:
            return await write_lines(records, file)
    finally:
        await reader.close()


def _export_to_file(dsn: str, asked: Query, path: Path) -> int:
    try:
        with new_file(path) as file:
            return asyncio.run(_export(dsn, asked, file))
    except OSError as error:
        raise Misuse(f"{path} can't be written: {error.strerror}") from None


@contextmanager
def _evidence(dsn: str) -> Iterator[Evidence]:
    evidence = Evidence.at(dsn)
    try:
        yield evidence
    finally:
        evidence.close()


def _table(records: list[AuditRecord]) -> Iterator[str]:
    """Records in columns."""
    rows = [("time", "decision", "from", "to", "rule", "reason", "layer"), *map(_row, records)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _row(record: AuditRecord) -> tuple[str, ...]:
    outcome = record.outcome
    would_be = f", would be {outcome.would_be}" if outcome.would_be != outcome.verdict else ""
    source = (outcome.source_id or "nobody") + (
        f" ({outcome.source_pod})" * bool(outcome.source_pod)
    )
    cells = (
        timestamp(record.time),
        f"{outcome.verdict}{would_be}",
        source,
        f"{outcome.destination_id}:{outcome.destination_port}",
        outcome.rule,
        outcome.reason,
        outcome.layer,
    )
    # Nothing that is in the database moves the cursor of a terminal.
    return tuple(clean(cell) or "" for cell in cells)


def _say_findings(findings: Iterable[Finding], summary: Summary) -> None:
    for finding in findings:
        say(f"error {finding.kind}: {clean(finding.message)}\n")
    say("".join(f"{line}\n" for line in _summary_text(summary)))


def _summary_text(summary: Summary) -> Iterator[str]:
    found = summary.findings.total()
    yield (
        f"{_count(found, 'finding')} in {_count(summary.batches, 'batch', 'batches')} and "
        f"{_count(summary.outcomes, 'outcome')}; {_count(summary.records, 'record')} proved"
    )
    if summary.dropped:
        yield (
            f"the records of {_count(summary.dropped, 'batch', 'batches')} were dropped by "
            f"retention: of those before {summary.since} the chain alone is proved"
        )
    if summary.lost:
        yield f"{_count(summary.lost, 'record')} lost on the way into the trail, which says so"
    if summary.checkpoints:
        yield (
            f"{_count(summary.checkpoints, 'checkpoint')}, good until batch "
            f"{summary.covered:,} of {summary.last:,}"
        )
    else:
        yield "no checkpoints: the owner of the database could have rewritten all of it"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _say_findings_json(findings: Iterable[Finding], summary: Summary) -> None:
    """One document, written as findings come: they may be as many as records."""
    out, before = sys.stdout, ""
    out.write('{"findings": [')
    for finding in findings:
        out.write(f"{before}\n  {json.dumps(_finding_json(finding))}")
        before = ","
    facts = {name: getattr(summary, name) for name in _SUMMARY}
    out.write(f'\n], "summary": {json.dumps(facts, default=str)}}}\n')


def _finding_json(finding: Finding) -> dict[str, object]:
    identifier = str(finding.id) if finding.id else None
    return {
        "kind": finding.kind,
        "batch": finding.batch,
        "id": identifier,
        "message": finding.message,
    }


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Tells on standard error how far it is: on one line of a terminal, else now and then."""
    on_terminal = sys.stderr.isatty()
    pause = _TELL_SECONDS if on_terminal else _TELL_LOG_SECONDS
    due = monotonic() + pause
    start, end = ("\r\x1b[K", "") if on_terminal else ("", "\n")

    def tell(done: int, total: int) -> None:
        nonlocal due
        if monotonic() >= due:
            click.echo(f"{start}batch {done:,} of {total:,}{end}", err=True, nl=False)
            due = monotonic() + pause

    try:
        yield tell
    finally:
        if on_terminal:
            click.echo(start, err=True, nl=False)


def _sentence(error: psycopg.Error) -> str:
    """What is wrong with the database, and what helps."""
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, errors.InsufficientPrivilege):
        return f"this role may not read the trail: grant it zt_reader ({said})"
    if isinstance(error, errors.UndefinedTable | errors.InvalidSchemaName | errors.UndefinedColumn):
        return f"the database has no audit schema, or another one: apply audit/schema.sql ({said})"
    if isinstance(error, errors.QueryCanceled):
        return "the database took too long: ask for less time with --since and --until"
    if isinstance(error, psycopg.OperationalError):
        return f"the audit database can't be reached: {said}"
    return f"the audit database refuses: {said}"
