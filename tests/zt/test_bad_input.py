"""Every bad input ends in clear findings, at its place: never in a traceback, never in a hang."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.zt.small_policy import POLICY, findings, table
from zt.decode import MAX_FINDINGS
from zt.load import load_texts

BAD_INPUT = table("bad_input.yaml")
SERVICE = """\
apiVersion: zt.hanzo.ai/v1
kind: Service
metadata: {name: iam}
spec:
  cluster: east
  namespace: hanzo
"""
BOMB = (
    "apiVersion: zt.hanzo.ai/v1\nkind: ServiceAccessPolicy\nmetadata: {name: bomb}\nspec:\n"
    "  rules:\n"
    "    - &r {from: {external: a}, to: &t [&d {external: a, ports: &p ["
    + "80, " * 200
    + "80]}"
    + ", *d" * 200
    + "]}\n"
    + "    - *r\n" * 200
)
RAW = {
    "an empty file": (b"", ["1:1: error: holds no document [empty-file]"]),
    "only comments": (b"# nothing\n\n", ["1:1: error: holds no document [empty-file]"]),
    "only empty documents": (b"---\n---\n", ["1:1: error: holds no document [empty-file]"]),
    "empty text": (b"''\n", ["1:1: error: expected a mapping, found text [wrong-type]"]),
    "latin-1": (
        "a: 1\nnaïve: é".encode("latin-1"),
        ["2:3: error: byte 0xef is not UTF-8: save the file as UTF-8 [not-utf-8]"],
    ),
    "latin-1 after UTF-8": (
        "é: ".encode() + "é".encode("latin-1"),
        ["1:4: error: byte 0xe9 is not UTF-8: save the file as UTF-8 [not-utf-8]"],
    ),
    "UTF-16": (
        SERVICE.encode("utf-16"),
        ["1:1: error: the file is UTF-16: save the file as UTF-8 [not-utf-8]"],
    ),
    "NUL": (
        b"a: 1\nb: \0",
        ["2:4: error: not YAML: character U+0000 cannot stand in YAML [not-yaml]"],
    ),
    "escape": (
        b"a: \x1b[31m",
        ["1:4: error: not YAML: character U+001B cannot stand in YAML [not-yaml]"],
    ),
    "a tag that is no UTF-8": (
        b"a: !<%ff> b\n",
        [
            (
                "1:6: error: not YAML: found an incorrect leading UTF-8 octet while parsing a tag "
                "that starts at line 1 [not-yaml]"
            )
        ],
    ),
    "half a surrogate": (
        b'a: "\\ud800"\n',
        [
            (
                "1:7: error: not YAML: found invalid Unicode character escape code while parsing a "
                "quoted scalar that starts at line 1 [not-yaml]"
            )
        ],
    ),
    "100,000 brackets": (
        b"[" * 100_000,
        ["1:64: error: not YAML: more than 64 levels of nesting [not-yaml]"],
    ),
    "100,000 dashes": (
        b"- " * 100_000,
        ["1:127: error: not YAML: more than 64 levels of nesting [not-yaml]"],
    ),
    "1,000 levels of indentation": (
        "".join(f"{' ' * level}a:\n" for level in range(1000)).encode(),
        ["64:64: error: not YAML: more than 64 levels of nesting [not-yaml]"],
    ),
    "an alias bomb": (
        BOMB.encode(),
        ["6:232: error: bomb/rule-1: aliases expand to more than the file holds [alias-bomb]"],
    ),
    "a list that holds itself": (
        f"{SERVICE}  ports: &a [*a]\n".encode(),
        ["7:10: error: expected a mapping with 'port', found a list [wrong-type]"],
    ),
    "a port that holds itself": (
        f"{SERVICE}  ports: [&a {{port: *a}}]\n".encode(),
        ["7:11: error: expected the number of a port, found a mapping [wrong-type]"],
    ),
    "a kind that is an alias bomb": (
        b"apiVersion: zt.hanzo.ai/v1\nkind: &a [" + b"*a, " * 1000 + b"]\n",
        ["2:7: error: kind should be text [wrong-type]"],
    ),
    "no mesh": (SERVICE.encode(), ["3:18: error: no document of kind Mesh [no-mesh]"]),
    "a syntax error hides nothing before it": (
        f"{SERVICE}  portz: []\n---\na: *x\n".encode(),
        [
            "7:3: error: 'portz' is not a key of Service (did you mean 'ports'?) [unknown-key]",
            "9:4: error: not YAML: found undefined alias [not-yaml]",
        ],
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_a_policy_that_is_none_is_told_why_and_where(case: str) -> None:
    text, expected = BAD_INPUT[case]
    assert findings(text) == expected


@pytest.mark.parametrize("case", RAW)
def test_bytes_that_are_no_policy_are_told_why_and_where(case: str) -> None:
    data, expected = RAW[case]
    assert findings(data) == [f"policy.yaml:{finding}" for finding in expected]


def test_a_very_long_value_is_not_repeated_whole() -> None:
    (finding,) = findings(POLICY.replace("cluster: ci", f"cluster: {'x' * 1_000_000}"))
    assert len(finding) < 400
    assert finding.startswith("policy.yaml:58:12: error: 'xxx")


def test_a_very_long_line_has_a_column() -> None:
    padding = " " * 100_000
    (finding,) = findings(POLICY.replace("cluster: ci", f"cluster: {padding}CI"))
    assert finding.startswith("policy.yaml:58:100012: error: 'CI' is not a name")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text + "---\n---\n",
        lambda text: text.replace("---\n", "---\n---\n", 1),
        lambda text: "%YAML 1.1\n---\n" + text,
    ],
    ids=["CRLF", "BOM", "trailing empty documents", "empty document between", "directive"],
)
def test_what_is_yaml_all_the_same_is_read(change: Callable[[str], str]) -> None:
    assert findings(change(POLICY)) == []


@pytest.mark.parametrize(
    "unit",
    [b"&a a: *a\n", b"- *x\n", b"{", b"? ", b"'", b"%", b"\t", b"!x ", b"a: 1\n", b"---\na: 1\n"],
)
def test_a_megabyte_of_anything_is_refused_within_seconds(unit: bytes) -> None:
    data = unit * ((1 << 20) // len(unit))
    start = time.process_time()
    assert findings(data)
    assert time.process_time() - start < 10  # two, with room for a slow machine


def test_a_file_of_nothing_but_mistakes_is_given_up() -> None:
    found = findings("".join(f"key-{number}: 1\n" for number in range(100_000)))
    assert len(found) == MAX_FINDINGS + 1
    assert found[0].startswith("policy.yaml:1:1: error: 'key-0' is not a key of a document")
    assert found[-1] == (
        "policy.yaml:1000:1: error: 1000 findings in this file: the rest of it is not read "
        "[too-much]"
    )


PIECES = st.sampled_from(
    [
        *(piece.encode() for piece in ("\n", "\t", " ", ":", "-", "[", "]", "{", "}", "*a", "&a ")),
        *(piece.encode() for piece in ("|", ">", "'", '"', "#", "!", "!!", "%", "@", "`", "?")),
        *(piece.encode() for piece in ("---\n", "<<: ", "null", "on", "0x1", "1e9", "é", "\ufeff")),
        b"\xff",
        b"\x00",
    ]
)
EDITS = st.lists(
    st.tuples(st.integers(0, len(POLICY)), st.integers(0, 40), PIECES | st.binary(max_size=6)),
    min_size=1,
    max_size=8,
)


@given(EDITS)
def test_a_mutated_policy_is_a_policy_or_has_findings(
    edits: list[tuple[int, int, bytes]],
) -> None:
    data = POLICY.encode()
    for position, removed, added in edits:
        data = data[:position] + added + data[position + removed :]
    loaded = load_texts([("policy.yaml", data)])
    assert (loaded.policy is None) == bool(loaded.findings)
    for finding in findings(data):
        assert finding.startswith("policy.yaml:")
        assert "\n" not in finding


@given(st.binary(max_size=200))
def test_any_bytes_have_findings(data: bytes) -> None:
    assert load_texts([("policy.yaml", data)]).findings
