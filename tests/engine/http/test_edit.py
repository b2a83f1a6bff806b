"""One document exchanged in the text of a policy."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from engine.http.documents import accesses, documents, tag_of, whole
from engine.http.edit import BODY, Change, ChangeRefused, Edited, edit
from engine.http.spans import decoded, span_at, spans
from tests.engine.http.serving import WITH_RIGHTS
from tests.engine.samples import API, DB, TODAY, WEB, policy
from zt.load import load_texts
from zt.model import Policy

FILE = "policy.yaml"
FILES = {FILE: WITH_RIGHTS.encode()}
CORE = f"""\
apiVersion: zt.hanzo.ai/v1
kind: ServiceAccessPolicy
metadata: {{name: core}}
spec:
  rules:
    # one rule, and a comment
    - from: {{spiffe: "{WEB}"}}
      to: [{{spiffe: "{DB}", ports: [5432]}}]
"""


def text_of(name: str, files: dict[str, bytes] = FILES) -> str:
    """The text of a document, found by its position."""
    loaded = load_texts(sorted(files.items())).policy
    assert loaded is not None
    (document,) = [item for item in accesses(loaded) if item.name == name]
    text = decoded(files[document.where.file])
    span = span_at(spans(text), document.where.line)
    assert span is not None
    return span.of(text)


def tag(name: str, files: dict[str, bytes] = FILES) -> str:
    return tag_of(text_of(name, files).encode())


def change(body: str | bytes = CORE, name: str = "core", **others: Any) -> Change:  # noqa: ANN401
    content = body.encode() if isinstance(body, str) else body
    return replace(Change(name, content, is_json=False, tags=None), **others)


def changed(*, files: dict[str, bytes] = FILES, **others: Any) -> Edited:  # noqa: ANN401
    return edit(files, change(**others), TODAY)


def refusal(*, files: dict[str, bytes] = FILES, **others: Any) -> ChangeRefused:  # noqa: ANN401
    with pytest.raises(ChangeRefused) as refused:
        changed(files=files, **others)
    return refused.value


def loaded(files: dict[str, bytes]) -> Policy:
    found = load_texts(sorted(files.items()))
    assert found.policy is not None
    return found.policy


def test_only_the_document_is_another() -> None:
    made = changed(tags=(tag("core"),))
    before, after = WITH_RIGHTS, made.content.decode()
    assert after == before.replace(text_of("core"), CORE.rstrip())
    assert "# Who may ask the evaluator" in after
    assert made.old == policy(WITH_RIGHTS)
    assert [len(access.rules) for access in made.new.access] == [1]


def test_the_new_tag_is_that_of_the_next_change() -> None:
    first = changed(tags=(tag("core"),))
    files = {FILE: first.content}
    assert first.tag == tag("core", files)
    second = changed(files=files, tags=(first.tag,))
    assert second.content == first.content
    assert refusal(files=files, tags=(tag("core"),)).status == 412


def test_what_was_read_can_be_put_back_as_it_is() -> None:
    for document in accesses(policy(WITH_RIGHTS)):
        text, name = text_of(document.name), document.name
        assert changed(body=text, name=name).content == FILES[FILE]
        body = json.dumps(whole(document))
        made = changed(body=body, name=name, is_json=True)
        assert documents(made.new) != []
        assert (made.new.access, made.new.operators) == (
            policy(WITH_RIGHTS).access,
            policy(WITH_RIGHTS).operators,
        )


def test_lines_end_as_in_the_rest_of_the_file() -> None:
    files = {FILE: WITH_RIGHTS.replace("\n", "\r\n").encode()}
    made = changed(files=files)
    assert b"\n" not in made.content.replace(b"\r\n", b"")
    assert changed(files=files).new == changed().new


def test_a_byte_order_mark_is_no_hindrance() -> None:
    made = changed(
        files={FILE: b"\xef\xbb\xbf" + FILES[FILE]}, body=b"\xef\xbb\xbf" + CORE.encode()
    )
    assert made.content == changed().content


def test_comments_above_and_markers_around_the_body_are_left_out() -> None:
    body = f"# mine\n---\n# above\n{CORE}\n# below\n...\n"
    assert changed(body=body).content == changed().content


def test_a_new_policy_gets_a_file_of_its_own() -> None:
    body = CORE.replace("name: core", "name: more").replace(DB, API)
    made = changed(body=body, name="more", tags=())
    assert (made.file, made.content.decode()) == ("more.yaml", body)
    assert [access.name for access in made.new.access] == ["core", "more"]
    files = FILES | {"more.yaml": made.content}
    assert made.tag == tag("more", files)
    assert refusal(files=files, body=body, name="more", tags=()).status == 412
    other = {
        FILE: FILES[FILE],
        "more.yaml": b"# nothing\n---\n" + CORE.replace("core", "x").encode(),
    }
    assert refusal(files=other, body=body, name="more", tags=()).status == 409


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"\xff\xfe", "not UTF-8"),
        ("a: [", "not YAML"),
        ("", "0 documents"),
        (CORE + "---\n" + CORE, "2 documents"),
        ("[]", "kind should be one of"),
        ("text", "kind should be one of"),
        (CORE.replace("ServiceAccessPolicy", "Service"), "kind should be one of"),
        (CORE.replace("name: core", "name: other"), "metadata.name should be 'core'"),
        (CORE.replace("{name: core}", "core"), "metadata.name should be 'core'"),
        (CORE.replace("5432", "70000"), "1 errors"),
        (CORE.replace("/db", "/dbb"), "1 errors"),
        (CORE.replace("spec:", "spce:"), "errors"),
        ("a: &a [x]\nb: *c\n", "not YAML"),
    ],
)
def test_what_is_no_such_policy_is_refused(body: str | bytes, expected: str) -> None:
    refused = refusal(body=body)
    assert refused.status == 422
    assert expected in refused.detail


def test_a_finding_names_the_line_of_the_file_and_of_the_body() -> None:
    body = "# one\n# two\n---\n" + CORE.replace("5432", "70000")
    refused = refusal(body=body)
    (finding,) = [item for item in refused.findings if item.code == "bad-value"]
    line = refused.lines[finding.where.file, finding.where.line]
    assert "70000" in body.splitlines()[line - 1]
    assert finding.where.file == FILE
    assert refusal(body="x: [").findings[0].where.file == BODY


@pytest.mark.parametrize(
    "body", [b"{", b'{"kind": "ServiceAccessPolicy"', b"NaN", b'"\\ud800"', b"[" * 5000]
)
def test_json_has_to_be_json(body: bytes) -> None:
    assert refusal(body=body, is_json=True).status == 400


@pytest.mark.parametrize(
    "body", [b"5", b"null", b"[]", b'"core"', b'{"kind": {"kind": []}}', b'{"\\u0000": "\\u0000"}']
)
def test_json_of_another_shape_is_no_policy(body: bytes) -> None:
    assert refusal(body=body, is_json=True).status == 422


def test_names_of_other_kinds_and_unknown_names_are_told_apart() -> None:
    body = CORE.replace("name: core", "name: nobody")
    assert refusal(body=body, name="nobody").status == 404
    body = CORE.replace("name: core", "name: evaluators")
    assert refusal(body=body, name="evaluators").status == 422
    assert refusal(kind="AgentAccessPolicy").status == 422


def test_a_broken_policy_can_be_mended() -> None:
    broken = {FILE: WITH_RIGHTS.replace("/shop/db", "/shop/dbb").encode()}
    made = changed(files=broken)
    assert made.old is not None
    unreadable = {FILE: WITH_RIGHTS.replace("expires: 2026-11-23", "expires: never").encode()}
    assert changed(files=unreadable).old is None


def test_what_is_wrong_elsewhere_is_told_as_well() -> None:
    files = FILES | {"other.yaml": b"kind: Unknown\n"}
    assert {item.where.file for item in refusal(files=files).findings} == {"other.yaml"}


def test_warnings_come_with_the_change() -> None:
    past = (TODAY - timedelta(days=1)).isoformat()
    body = CORE.replace("      to:", f"      expires: {past}\n      to:")
    assert "expired-rule" in {finding.code for finding in changed(body=body).warnings}


_rule = st.builds(
    lambda source, ports: (
        f'{{from: {{spiffe: "{source}"}}, to: [{{spiffe: "{DB}", ports: {ports}}}]}}'
    ),
    st.sampled_from([WEB, API]),
    st.lists(st.just(5432), min_size=1, max_size=1),
)


@given(
    st.lists(_rule, min_size=1, max_size=3, unique=True),
    st.sampled_from(["\n# a comment\n", "\n", "\n\n\n", ""]),
    st.booleans(),
)
def test_a_change_is_just_what_the_body_says(rules: list[str], end: str, flow: bool) -> None:  # noqa: FBT001
    listed = "\n".join(f"    - {rule}" for rule in rules)
    spec = f"{{rules: [{', '.join(rules)}]}}" if flow else f"\n  rules:\n{listed}"
    body = CORE.partition("spec:")[0] + f"spec: {spec}{end}"
    made = changed(body=body)
    others = [
        item for item in yaml.safe_load_all(WITH_RIGHTS) if item["metadata"]["name"] != "core"
    ]
    after = list(yaml.safe_load_all(made.content))
    assert [item for item in after if item["metadata"]["name"] != "core"] == others
    assert [item for item in after if item["metadata"]["name"] == "core"] == [yaml.safe_load(body)]
