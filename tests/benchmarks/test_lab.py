import os

from benchmarks.lab import Figures, _cpu, _resident, missed, table


def figures(kept: float) -> Figures:
    return Figures(
        new=[0.004, 0.002, 0.003],
        kept=[kept] * 3,
        requests=[1000.0],
        bandwidth=[2e8],
        cpu=0.0006,
        starts=[1.5],
    )


def test_each_side_has_a_column() -> None:
    lines = list(table({"without": figures(0.0002), "with": figures(0.0004)}, ((20.0, 12.0),)))
    assert lines[0] == "| | without | with |"
    assert "| new connection and a request, p50 | 3.00 ms | 3.00 ms |" in lines
    assert "| request on a kept connection, p50 | 0.20 ms | 0.40 ms |" in lines
    assert "| CPU of both sidecars, a request | 200 µs | 200 µs |" in lines
    assert any("1 idle sidecars the middle one has 20.0 MB in memory" in line for line in lines)


def test_a_missed_target_is_said() -> None:
    sides = {"without": figures(0.0002), "with": figures(0.0006)}
    assert missed({**sides, "with": figures(0.0004)}, ((50.0, 29.0),)) == []
    assert len(missed(sides, ((50.0, 31.0),))) == 2


def test_memory_and_cpu_of_a_process_are_read() -> None:
    all_, own = _resident(os.getpid())
    assert all_ > own > 1
    assert _cpu(os.getpid()) > 0
