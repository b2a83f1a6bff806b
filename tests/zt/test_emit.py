"""Compiled objects as YAML: what is written is read again by any reader."""

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from zt.emit import Form, Fragments, Noted, blank, note, plain, to_yaml


def _with_comment(value: object, comment: str) -> object:
    """A value with one comment; a second would stand around the first."""
    return value if isinstance(value, Noted) else note(value, comment)


# A NUL at the start marks a blank; no text of a policy holds one.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
NOTED = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(TEXT, inner, max_size=4)
        | st.builds(_with_comment, inner, TEXT)
    ),
    max_leaves=20,
)
MISREAD = (
    *("yes", "No", "ON", "off", "y", "N", "true", "False", "null", "Null", "~", "", "=", "<<"),
    *("1", "-1", "+1", "0x1f", "0o17", "017", "1_000", "1:30", "190:20:30", "1.5", "1e3", "1E+3"),
    *(".5", ".inf", "-.INF", ".nan", "0b101", "2026-11-23", "2026-11-23T10:00:00Z", "12e03"),
    *("- a", "? a", ": a", "a: b", "a #b", "#a", "&a", "*a", "!a", "|", ">", "'a'", '"a"', "%a"),
    *("@a", "`a", "{a}", "[a]", "a:", "---", "...", " a", "a ", "a\tb", "a\nb", "\ta", "\u2028"),
    *("\ufeffa", "\x7f", "\x85", "é", "😀", "a😀\\u0041", "\\", "\\ud83d", "C:\\x", "a,b", "*"),
)


def read(text: str) -> list[Any]:
    """The document, by both of PyYAML's parsers."""
    return [
        yaml.load(text, Loader=loader)  # noqa: S506 - both are safe
        for loader in (yaml.SafeLoader, yaml.CSafeLoader)
    ]


@given(VALUES)
def test_any_value_is_read_as_it_was_written(value: object) -> None:
    assert read(to_yaml(value)) == [value, value]


@given(NOTED, TEXT)
def test_comments_change_nothing(value: object, header: str) -> None:
    assert read(to_yaml(value, header)) == [plain(value)] * 2


@pytest.mark.parametrize("text", MISREAD)
def test_text_that_looks_like_something_else_stays_text(text: str) -> None:
    for value in (text, [text], {text: text}, {"a": [text, {"b": text}]}):
        assert read(to_yaml(value)) == [value, value]


@pytest.mark.parametrize("number", [1e22, -1e-7, 0.1, 1e300, 5e-324, -0.0, 3.0])
def test_a_float_stays_a_float(number: float) -> None:
    for found in read(to_yaml({"a": number})):
        assert isinstance(found["a"], float)
        assert math.copysign(found["a"], number) == number


@pytest.mark.parametrize("value", [math.inf, math.nan, {1, 2}, b"a", object()])
def test_what_json_has_no_place_for_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        to_yaml({"a": value})


def test_plain_text_needs_no_quotes() -> None:
    assert to_yaml({"name": "postgres", "path": "/etc/zt", "spiffe": "spiffe://a/b"}) == (
        "name: postgres\npath: /etc/zt\nspiffe: spiffe://a/b\n"
    )


def test_a_comment_stands_above_its_value() -> None:
    value = {
        "ingress": note([note({"from": [note("iam", "rule-1")]}, "two\nlines")], "who may call")
    }
    assert to_yaml(value, "made by zt\n") == (
        "# made by zt\n"
        "# who may call\n"
        "ingress:\n"
        "  # two\n"
        "  # lines\n"
        "  - from:\n"
        "      # rule-1\n"
        "      - iam\n"
    )


@given(st.lists(VALUES.filter(bool), max_size=4))
def test_a_value_that_stands_in_many_places_is_read_in_all_of_them(values: list[Any]) -> None:
    fragments = Fragments()
    composed = [item for item in values if isinstance(item, dict | list)]
    shared = [fragments.of(item) for item in composed]
    value = {"flat": shared, "deep": {"er": [{"est": item} for item in shared]}}
    expected = {"flat": composed, "deep": {"er": [{"est": item} for item in composed]}}
    assert plain(value) == expected
    assert read(to_yaml(value)) == [expected] * 2


@given(st.lists(st.tuples(TEXT, st.integers(0, 65535)), min_size=1, max_size=4))
def test_a_form_is_filled_in_anew_each_time(blanks: list[tuple[str, int]]) -> None:
    form = Form({"name": blank("name"), "ports": [{"port": blank("port"), "tcp": True}]})
    filled = [form.fill(name=name, port=port) for name, port in blanks]
    expected = [{"name": name, "ports": [{"port": port, "tcp": True}]} for name, port in blanks]
    assert plain(filled) == expected
    assert read(to_yaml(filled)) == [expected] * 2
    assert read(to_yaml({"a": {"b": filled}})) == [{"a": {"b": expected}}] * 2
