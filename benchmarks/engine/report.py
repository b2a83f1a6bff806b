"""The figures as Markdown, and whether they meet the targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.engine import ours
from benchmarks.engine.client import Load
from benchmarks.engine.run import CONNECTIONS, REPEATED, ServerFigures, SizeFigures

TARGET_P50 = 10.0
TARGET_P99 = 42.0
TARGET_GROWTH = 1.5
TARGET_TIMES_OPA = 4.0
TARGET_MEBIBYTES = 128.0
LITTLE = 0.05
_NEW = "this evaluator, new"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured: ``load`` is the load average before the run."""

    processor: str
    cores: int
    python: str
    load: float
    opa: str


def conditions(machine: Machine, ceiling: Load) -> str:
    """What the figures are of."""
    return f"""\
## Conditions

- {machine.processor}, {machine.cores} cores, Python {machine.python}, load average
  {machine.load:.1f} before the run. A server has one core for all its processes, the client the
  other.
- Rules: one edge each, exact; ten to a service. Requests: half allowed; of the refused, as many
  each with no rule, backwards, to a port that is not declared, to itself, from a stranger, to
  nobody.
- HTTP/1.1, {CONNECTIONS} connections kept alive, one request at a time on each. The client reaches
  {ceiling.per_second:,.0f}/s (p50 {ceiling.p50_us:.0f} us) against a server that does nothing.
- Every decision is recorded: this evaluator's in its spool with durability `{ours.DURABILITY}` (the
  kernel has it before the answer is given), those of {machine.opa} by console decision logs into
  a file, those of Cerbos by its file back end, those of Cedar and of OPA as a library by one
  write(2) of a JSON line. Servers are ended by SIGKILL and records counted then: `missing` is
  answers without one.
- `distinct`: so many requests that none recurs soon (at 10 rules only refusals can be distinct);
  `repeated`: the same {REPEATED:,} over and over; `one`: one connection, distinct requests. Memory
  is the PSS of all processes of a server after the `distinct` run; `cpu us` the processor time of
  one of its answers, which neighbours on the machine change least. `under way` is requests/s times
  mean latency: {CONNECTIONS}, by Little's law, if the figures agree; `client %` is how busy the
  client kept its core.
- Answers were compared first: the verdict, and the rule where it is told.
"""


def size_report(figures: SizeFigures) -> str:
    """Tables of one size."""
    return "\n".join(
        (
            f"## {figures.size:,} rules\n",
            *_servers(figures.servers),
            "",
            *_processes(figures),
            "",
        )
    )


def _servers(servers: Sequence[ServerFigures]) -> Iterator[str]:
    yield (
        "| server | load s | MiB | distinct /s | p50 us | p99 us | cpu us | times OPA "
        "| repeated /s | one: p50 us | p99 us | under way | client % | missing |"
    )
    yield "|---|" + "---:|" * 13
    best = best_opa(servers)
    for one in servers:
        if one.distinct is None or one.repeated is None or one.single is None:
            says = one.failure or "starts"
            yield f"| {one.name} | {one.load_seconds:.2f} | {one.memory_mib:.0f} | {says} |"
            continue
        many, single = one.distinct, one.single
        yield (
            f"| {one.name} | {one.load_seconds:.2f} | {one.memory_mib:.0f} "
            f"| {many.per_second:,.0f} | {many.p50_us:,.0f} | {many.p99_us:,.0f} "
            f"| {one.processor_us:.1f} "
            f"| {many.per_second / best if best else 0:.2f} | {one.repeated.per_second:,.0f} "
            f"| {single.p50_us:,.0f} | {single.p99_us:,.0f} "
            f"| {many.under_way:.2f} | {many.busy:.0%} | {one.missing} |"
        )
    yield from (f"\n{one.name}: {line}" for one in servers for line in one.wrong[:5])


def _processes(figures: SizeFigures) -> Iterator[str]:
    yield "| in process, recorded | load s | decisions | p50 us | p99 us | p99.9 us | wrong |"
    yield "|---|" + "---:|" * 6
    for name, one in figures.processes.items():
        yield (
            f"| {name} | {one.load_seconds:.3f} | {one.count:,} | {one.p50_us:,.1f} "
            f"| {one.p99_us:,.1f} | {one.p999_us:,.1f} | {one.wrong} |"
        )
    for build in figures.builds:
        yield (
            f"\nThe table is built from {build.source} in {build.seconds:.2f} s "
            f"with {build.memory_mib:.0f} MiB, by a process that then ends."
        )


def best_opa(servers: Sequence[ServerFigures]) -> float:
    """Requests a second of the better of OPA's forms; 0 without any."""
    found = (
        one.distinct.per_second for one in servers if one.name.startswith("opa") and one.distinct
    )
    return max(found, default=0.0)


@dataclass(frozen=True, slots=True)
class Target:
    """A figure and what it should be."""

    what: str
    figure: float
    bound: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether it is."""
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound


def targets(sizes: Sequence[SizeFigures]) -> list[Target]:
    """The targets, at the largest size and against the smallest."""
    least, most = sizes[0], sizes[-1]
    at = f"at {most.size:,} rules"
    new = most.processes[_NEW]
    found = [
        Target(f"decision with audit append, p50 us {at}", new.p50_us, TARGET_P50),
        Target(f"decision with audit append, p99 us {at}", new.p99_us, TARGET_P99),
        Target(
            f"p50 {at} over that at {least.size:,}",
            new.p50_us / least.processes[_NEW].p50_us,
            TARGET_GROWTH,
        ),
    ]
    mine = next((one for one in most.servers if one.name == ours.OURS.name), None)
    if mine is not None and mine.distinct is not None and (best := best_opa(most.servers)):
        times = mine.distinct.per_second / best
        found.append(Target(f"requests/s over OPA's {at}", times, TARGET_TIMES_OPA, at_least=True))
        found.append(Target(f"MiB {at}", mine.memory_mib, TARGET_MEBIBYTES))
    return found


def target_report(found: Sequence[Target]) -> str:
    """The targets as a table."""
    rows = (
        f"| {one.what} | {one.figure:,.2f} | {'>=' if one.at_least else '<='} {one.bound:g} "
        f"| {'met' if one.met else '**missed**'} |"
        for one in found
    )
    return "\n".join(
        ("## Targets\n", "| figure | is | target | |", "|---|---:|---:|---|", *rows, "")
    )


def failures(sizes: Sequence[SizeFigures]) -> list[str]:
    """What makes figures worth nothing: wrong answers, and figures that contradict themselves."""
    found = []
    for size in sizes:
        at = f"at {size.size:,} rules"
        found += [f"{one.name} {at}: {len(one.wrong)} wrong" for one in size.servers if one.wrong]
        found += [
            f"{name} {at}: {one.wrong} wrong" for name, one in size.processes.items() if one.wrong
        ]
        found += [
            f"{one.name} {at}: {one.distinct.under_way:.2f} requests under way of {CONNECTIONS}"
            for one in size.servers
            if one.distinct and abs(one.distinct.under_way / CONNECTIONS - 1) > LITTLE
        ]
    return found
