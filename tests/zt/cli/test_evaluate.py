import json
from pathlib import Path

import pytest

from tests.strategies import TODAY
from tests.zt.cli.conftest import Run
from zt.decide import decide, decision_table
from zt.load import load_policy

SHOP, DB = "spiffe://hanzo.ai/east/web/shop", "spiffe://hanzo.ai/east/web/db"


def request(source: str, destination: str, port: object) -> str:
    return json.dumps({"source": source, "destination": destination, "port": port})


def test_every_answer_is_that_of_decide_in_the_order_of_the_requests(run: Run, small: Path) -> None:
    table = decision_table(load_policy(small), TODAY)
    names = [*table.ports, "spiffe://hanzo.ai/east/web/nobody"]
    asked = [(s, d, port) for s in names for d in names for port in (80, 5432, 8054)]

    found = run("evaluate", small, input="\n".join(request(*one) for one in asked))

    assert found.exit_code == 0
    answers = [json.loads(line) for line in found.output.splitlines()]
    decided = [decide(table, *one) for one in asked]
    assert [(one["source"], one["destination"], one["port"]) for one in answers] == asked
    assert [(one["verdict"], one["rule"], one["reason"]) for one in answers] == [
        (one.verdict, one.rule, one.reason) for one in decided
    ]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("nonsense", "not a line of JSON"),
        ("[" * 60_000, "not a line of JSON"),
        ("[1]", "not a JSON object with 'source', 'destination' and 'port'"),
        ('{"port": 80}', "'source' should be a SPIFFE ID or external:NAME"),
        (request(SHOP, DB, "80"), "'port' should be a number from 1 to 65535"),
        (request(SHOP, DB, True), "'port' should be a number from 1 to 65535"),  # noqa: FBT003
        (request(SHOP, DB, 70000), "'port' should be a number from 1 to 65535"),
        (request(SHOP, DB, 1.5), "'port' should be a number from 1 to 65535"),
        ('{"x": "' + "y" * 200_000 + '"}', "the line is longer than 65535 bytes"),
    ],
)
def test_a_bad_line_is_answered_with_its_number_and_the_rest_goes_on(
    run: Run, small: Path, line: str, error: str
) -> None:
    good = request(SHOP, DB, 5432)

    found = run("evaluate", small, input=f"{good}\n\n{line}\n{good}\n")

    first, bad, last = map(json.loads, found.output.splitlines())
    assert found.exit_code == 1
    assert bad == {"line": 3, "error": error}
    assert first == last
    assert first["verdict"] == "ALLOW"


def test_bytes_that_are_no_text_are_a_bad_line(run: Run, small: Path) -> None:
    found = run("evaluate", small, input=b"\xff\xfe\n")

    assert json.loads(found.output) == {"line": 1, "error": "not a line of JSON"}
