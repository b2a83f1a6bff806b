"""What is asked: the parser and the description of the API agree on every body."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from engine.evaluate import Request
from engine.http.description import SCHEMAS
from engine.http.problems import Refused
from engine.http.questions import parse, parse_batch, usual
from tests.engine.samples import API, DB, WEB

ROOT = "urn:api"
_REGISTRY = Registry().with_resource(
    ROOT, Resource.from_contents({"components": {"schemas": SCHEMAS}}, DRAFT202012)
)


def valid(name: str, value: object) -> bool:
    schema = {"$ref": f"{ROOT}#/components/schemas/{name}"}
    return bool(Draft202012Validator(schema, registry=_REGISTRY).is_valid(value))


def bodies(value: object) -> bytes:
    return json.dumps(value).encode()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts
parties = st.sampled_from([WEB, API, DB, "external:internet", "spiffe://", "x", ""]) | st.just(
    "spiffe://" + "x" * 503
)
contexts = st.dictionaries(
    st.sampled_from(["subject", "clientId", "more"]), texts | st.integers(), max_size=2
)
fields = {
    "source": parties | scalars,
    "destination": parties | scalars,
    "port": st.integers(-1, 65537) | scalars,
}
others = {
    "pod": scalars | st.just("p" * 253) | st.just("p" * 254),
    "node": scalars,
    "operator": st.none() | contexts | scalars,
    "agent": st.none() | contexts,
    "prot": scalars,
    "a/b~c": scalars,
}
good = st.fixed_dictionaries(
    {
        "source": st.sampled_from([WEB, "external:internet"]),
        "destination": st.sampled_from([DB, API]),
        "port": st.integers(1, 65535),
    },
    optional={
        "pod": st.none() | st.just("web-1"),
        "node": st.just("n1"),
        "operator": st.none() | st.just({"subject": "z"}),
    },
)
questions = good | st.fixed_dictionaries({}, optional=fields | others)


@given(questions | scalars | st.lists(scalars, max_size=2))
@example({"source": WEB, "destination": DB, "port": True})
def test_a_question_is_taken_just_where_the_description_says_so(value: Any) -> None:  # noqa: ANN401
    try:
        request = parse(bodies(value))
    except Refused as refused:
        problem = refused.problem
        assert not valid("Question", value)
        assert (problem.status, bool(problem.faults)) == (422, True)
    else:
        assert valid("Question", value)
        assert (request.source, request.destination, request.port) == (
            value["source"],
            value["destination"],
            value["port"],
        )
        assert (request.pod, request.node) == (value.get("pod"), value.get("node"))


@given(st.lists(questions, max_size=4) | scalars)
def test_a_batch_is_taken_whole_or_not_at_all(items: Any) -> None:  # noqa: ANN401
    value = {"requests": items}
    try:
        found = parse_batch(bodies(value))
    except Refused as refused:
        assert not valid("Questions", value)
        for fault in refused.problem.faults:
            assert fault.at.startswith("/requests")
    else:
        assert valid("Questions", value)
        assert found == [parse(bodies(item)) for item in items]


@given(questions)
def test_what_is_wrong_is_pointed_at(value: dict[str, Any]) -> None:
    try:
        parse(bodies(value))
    except Refused as refused:
        for fault in refused.problem.faults:
            name = fault.at.removeprefix("/").replace("~1", "/").replace("~0", "~")
            assert name in value or name in ("source", "destination", "port")


@pytest.mark.parametrize("size", [0, 1, 1000, 1001])
def test_a_batch_has_a_thousand_questions_at_most(size: int) -> None:
    body = bodies({"requests": [{"source": WEB, "destination": DB, "port": 1}] * size})
    if 1 <= size <= 1000:
        assert len(parse_batch(body)) == size
    else:
        with pytest.raises(Refused):
            parse_batch(body)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nothing", b'{"port": NaN}', b"\xff", b'"\\ud800"', b"[" * 2000]
)
def test_what_is_no_json_is_refused_as_such(body: bytes) -> None:
    for read in (parse, parse_batch):
        with pytest.raises(Refused) as refused:
            read(body)
        assert (refused.value.problem.status, refused.value.problem.code) == (400, "not-json")


def test_as_many_faults_are_told_as_anybody_mends() -> None:
    with pytest.raises(Refused) as refused:
        parse_batch(bodies({"requests": [{}] * 1000}))
    assert len(refused.value.problem.faults) == 100
    with pytest.raises(Refused) as refused:
        parse(bodies({"x" * 200_000 + str(number): 1 for number in range(4)}))
    assert len(refused.value.problem.body()) < 10_000


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"operator": {"subject": "ada"}}, "operator:ada"),
        ({"agent": {"clientId": "helper"}}, "agent:helper"),
        ({"operator": None, "agent": {"clientId": "helper"}}, "agent:helper"),
        ({}, None),
    ],
)
def test_on_whose_behalf_is_kept(context: dict[str, object], expected: str | None) -> None:
    value = {"source": WEB, "destination": DB, "port": 5432, **context}
    assert parse(bodies(value)) == Request(WEB, DB, 5432, on_behalf_of=expected)


def written(source: str, destination: str, port: str, space: str) -> bytes:
    colon, comma = f":{space}", f",{space}"
    text = (
        f'{{"source"{colon}"{source}"{comma}"destination"{colon}"{destination}"{comma}'
        f'"port"{colon}{port}}}'
    )
    return text.encode()


def read(body: bytes) -> Request | None:
    try:
        return parse(body)
    except Refused:
        return None


@pytest.mark.parametrize("space", ["", " "])
@pytest.mark.parametrize("port", [1, 443, 65535])
def test_a_usual_question_is_read_as_any_other(space: str, port: int) -> None:
    body = written(WEB, DB, str(port), space)
    for parties in ({WEB, DB}, {DB}, {WEB}, set[str]()):
        assert usual(body, parties) == parse(body) == Request(WEB, DB, port)


@pytest.mark.parametrize(
    "port",
    ["0", "00", "080", "65536", "+8", "8e1", "8.0", "8_0", "\u0668", "-1", "true", '"8"', ""],
)
def test_a_port_that_is_none_is_not_usual(port: str) -> None:
    body = written(WEB, DB, port, "")
    assert usual(body, {WEB, DB}) is None
    assert read(body) is None


@given(st.data())
def test_what_is_nearly_usual_is_never_read_otherwise(data: st.DataObject) -> None:
    """Whatever is put somewhere into a usual question, or left out of it."""
    body = written(WEB, DB, "443", data.draw(st.sampled_from(["", " "])))
    start, end = sorted(data.draw(st.integers(0, len(body))) for _ in range(2))
    pieces = st.binary(max_size=2) | st.sampled_from([b'"', b"\\", b" ", b",", body[:20], body])
    body = body[:start] + data.draw(pieces) + body[data.draw(st.sampled_from([start, end])) :]
    for parties in ({WEB, DB}, {DB}, {WEB}, set[str]()):
        found = usual(body, parties)
        assert found is None or found == read(body)


@pytest.mark.parametrize(
    "body",
    [
        written(WEB, "spiffe://hanzo.ai/east/shop/no,body", "443", ""),
        written("web", DB, "443", ""),
        written(WEB, "", "443", ""),
        written(WEB, DB, "443", "  "),
        written(WEB, DB, "443", "") + b" ",
        written(WEB + "\\u0000", DB, "443", ""),
        written("spiffe://" + "x" * 600, DB, "443", ""),
        b"",
        b'"' * 10,
    ],
)
def test_any_other_question_is_left_to_the_parser(body: bytes) -> None:
    assert usual(body, {WEB, DB, "spiffe://" + "x" * 600}) is None
