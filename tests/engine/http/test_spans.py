"""Documents in the text of a file, against what a YAML parser makes of it."""

from itertools import pairwise

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from engine.http.spans import Span, span_at, spans

VALUES = st.sampled_from(
    [
        "1",
        "text  # a comment",
        "{a: [1, 2]}",
        '"--- quoted"',
        "|\n    block\n    # no comment\n    --- no marker",
        "\n  inner: 1\n  # a comment\n  more: 2",
        ">-\n  folded\n\n  lines",
        "[\n  1,  # one\n  2\n ]",
    ]
)
MAPPINGS = st.lists(VALUES, min_size=1, max_size=3).map(
    lambda values: "\n".join(f"key{number}: {value}" for number, value in enumerate(values))
)
FLOWS = st.sampled_from(["{a: 1}", "[1, 2]", "{a: {b: c}, d: e}"])
AROUND = st.lists(st.sampled_from(["", "# a comment", "# --- none either"]), max_size=3).map(
    lambda lines: "".join(f"{line}\n" for line in lines)
)
MARKERS = st.sampled_from(["---\n", "--- # a comment\n", "...\n---\n", "---\n---\n", "---  \n"])


@st.composite
def files(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A file, and the documents in it as they are written."""
    text, documents = draw(AROUND) + draw(st.sampled_from(["", "---\n"])), []
    for number in range(draw(st.integers(0, 4))):
        if number:
            text += draw(MARKERS)
        document = draw(MAPPINGS | FLOWS)
        documents.append(document)
        text += draw(AROUND) + document + "\n" + draw(AROUND)
    return text.removesuffix("\n" if draw(st.booleans()) else "~"), documents


@given(files())
def test_spans_are_the_documents(file: tuple[str, list[str]]) -> None:
    text, documents = file
    found = spans(text)
    assert [span.of(text) for span in found] == documents
    parsed = [document for document in yaml.safe_load_all(text + "\n") if document is not None]
    assert [yaml.safe_load(span.of(text) + "\n") for span in found] == parsed
    for span in found:
        assert text[: span.start].count("\n") + 1 == span.line


@given(files())
def test_each_line_of_a_document_leads_to_it(file: tuple[str, list[str]]) -> None:
    text, _ = file
    found = spans(text)
    for span in found:
        for line in range(span.line, span.line + span.of(text).count("\n") + 1):
            assert span_at(found, line) == span
    assert span_at(found, 0) is None
    assert all(one.end < other.start for one, other in pairwise(found))


@given(files(), st.data())
def test_replacing_one_leaves_the_others(file: tuple[str, list[str]], data: st.DataObject) -> None:
    text, _ = file
    found = spans(text)
    if not found:
        return
    index = data.draw(st.integers(0, len(found) - 1))
    new = found[index].replaced(text, "new: {a: 1}\nmore: 2")
    before, after = (
        [document for document in yaml.safe_load_all(one + "\n") if document is not None]
        for one in (text, new)
    )
    before[index] = {"new": {"a": 1}, "more": 2}
    assert after == before
    assert new.startswith(text[: found[index].start])
    assert new.endswith(text[found[index].end :])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("# nothing\n---\n...\n", ()),
        ("--- {a: 1}\n", (Span(4, 10, 1),)),
        ("%YAML 1.1\n---\na: 1\n", (Span(14, 18, 3),)),
        ("a: 1\r\n---\r\nb: 2\r\n", (Span(0, 4, 1), Span(11, 15, 3))),
        ("a: 1\r---\rb: 2", (Span(0, 4, 1), Span(9, 13, 3))),
        ("  a: 1\n  b: 2\n", (Span(0, 14 - 1, 1),)),
        ("a: ---\n----\n", (Span(0, 11, 1),)),
    ],
)
def test_where_documents_begin_and_end(text: str, expected: tuple[Span, ...]) -> None:
    assert spans(text) == expected


def test_what_stood_on_the_line_of_the_marker_is_put_below_it() -> None:
    text = "--- {a: 1}\n---\nb: 2\n"
    assert spans(text)[0].replaced(text, "a: 2") == "--- \na: 2\n---\nb: 2\n"
