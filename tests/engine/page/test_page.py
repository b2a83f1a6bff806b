import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.audit.reader import Edge
from engine.builder import build
from engine.page.assets import HEADERS, address, assets
from engine.page.page import Parts, page
from engine.policy.store import PolicyStore
from engine.policy.table import Snapshot, empty_snapshot
from tests.engine.page.test_html import Read
from tests.engine.samples import API, DB, NEW, POLICY, TODAY, WEB, in_force

NOW = datetime(2026, 11, 24, 12, 30, tzinfo=UTC)
VOID = {"meta", "link", "input"}


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    folder = tmp_path_factory.mktemp("state")
    (folder / "policy.yaml").write_text(POLICY)
    assert build(folder / "policy.yaml", folder / "policy", TODAY).problems == ()
    store = PolicyStore(folder / "policy")
    assert store.refresh()
    return store.current


def edge(source: str | None, destination: str, allowed: int, denied: int, would: int) -> Edge:
    return Edge(source, destination, 5432, allowed, denied, would, NOW)


def read(snapshot: Snapshot, edges: Sequence[Edge] | None = ()) -> Read:
    return Read(page(Parts(snapshot, edges)))


def links(found: Read, kind: str) -> list[str]:
    """The names of the links of a class in the picture."""
    tags = [dict(attributes) for tag, attributes in found.tags if tag == "a"]
    classes = [(tag, (tag.get("class") or "").split()) for tag in tags]
    return [tag.get("aria-label") or "" for tag, names in classes if kind in names]


def test_kinds_of_edges_are_told_apart_in_words(snapshot: Snapshot) -> None:
    seen = [edge(WEB, DB, 5, 0, 0), edge(API, WEB, 0, 2, 0), edge(DB, NEW, 3, 0, 3)]
    found = read(snapshot, seen)
    assert "web to db, port 5432: Granted and seen, 5 allowed" in links(found, "seen")
    assert "web to api, port 5432: Granted, not seen, not seen" in links(found, "unseen")
    assert links(found, "refused") == ["api to web, port 5432: Refused, 2 refused"]
    told = (
        "db to new, port 5432: Not granted, but let pass, 3 let pass, to be refused once enforced"
    )
    assert links(found, "undeclared") == [told]


def test_every_node_is_in_the_tab_order_and_named(snapshot: Snapshot) -> None:
    found = read(snapshot, [edge(None, DB, 0, 1, 0), edge("spiffe://x/y/z/shell", DB, 0, 1, 0)])
    names = links(found, "node")
    assert {"web, tcp · enforce", "new, tcp · observe", "office, outside"} <= set(names)
    assert {"no identity, not declared", "shell, not declared"} <= set(names)
    nodes = [dict(attributes) for tag, attributes in found.tags if tag == "a"]
    assert all("tabindex" not in node for node in nodes if "data-node" in node)


def test_every_link_within_the_page_leads_somewhere(snapshot: Snapshot) -> None:
    found = read(
        snapshot, [edge(WEB, DB, 5, 1, 0), edge(None, DB, 0, 1, 0), edge(API, WEB, 1, 0, 1)]
    )
    attributes = [dict(attributes) for _, attributes in found.tags]
    identifiers = Counter(item["id"] for item in attributes if "id" in item)
    assert max(identifiers.values()) == 1
    targets = {item["href"] for item in attributes if (item.get("href") or "").startswith("#")}
    assert {(target or "").removeprefix("#") for target in targets} <= set(identifiers)
    assert len(targets) > 10


@settings(max_examples=30)
@given(
    st.text(min_size=1, max_size=40) | st.just("</title><script>alert(1)</script>"),
    st.text(max_size=40) | st.just('"><img src=x onerror=alert(1)>'),
)
def test_what_peers_wrote_adds_no_element(source: str, problem: str) -> None:
    """The same page with harmless names has the same elements and attributes."""
    made = in_force()

    def shape(source: str, problem: str) -> list[tuple[str, list[str]]]:
        parts = Parts(made, [edge(source, "spiffe://x/y/z/w", 0, 1, 0)], (problem,))
        return [(tag, [name for name, _ in attrs]) for tag, attrs in Read(page(parts)).tags]

    assert shape(source, problem) == shape("a", "b")


@settings(max_examples=30)
@given(st.text(min_size=1, max_size=600) | st.just("</title><script>alert(1)</script>"))
def test_strange_parties_are_drawn_as_text(name: str) -> None:
    graph = _drawn()
    shapes = {
        tuple((tag, tuple(key for key, _ in attributes)) for tag, attributes in Read(text).tags)
        for text in (
            page(Parts(graph, [edge("spiffe://x/y/z/" + who, DB, 0, 1, 0)])) for who in (name, "a")
        )
    }
    assert len(shapes) == 1


def test_nothing_is_inline_and_nothing_comes_from_elsewhere(snapshot: Snapshot) -> None:
    text = page(Parts(snapshot, [edge(WEB, DB, 5, 1, 0)]))
    found = Read(text)
    for tag, attributes in found.tags:
        named = dict(attributes)
        assert tag != "style"
        assert tag != "script" or named.get("src") == address("page.js")
        assert not [name for name in named if name == "style" or name.startswith("on")]
        for name in ("src", "href", "action"):
            assert not re.match(r"[a-z]+:|//", named.get(name) or "")


def test_elements_are_closed(snapshot: Snapshot) -> None:
    text = page(Parts(snapshot, [edge(WEB, DB, 5, 1, 0), edge(None, DB, 0, 1, 0)], ("bad",)))
    opened = Counter(tag for tag, _ in Read(text).tags if tag not in VOID)
    assert opened == Counter(re.findall(r"</([a-z0-9]+)>", text, re.IGNORECASE))


def test_without_a_policy_the_page_says_that_everything_is_refused() -> None:
    found = read(empty_snapshot())
    assert "everything is refused" in found.text
    assert "Latest decisions" in found.text


def test_without_a_trail_the_graph_is_there(snapshot: Snapshot) -> None:
    found = Read(page(Parts(snapshot, None, audit_available=False)))
    assert "The audit trail cannot be read now." in found.text
    assert "Decisions cannot be recorded" in found.text
    assert links(found, "node")


def test_problems_of_a_change_are_listed(snapshot: Snapshot) -> None:
    found = Read(page(Parts(snapshot, (), ("access.yaml:14:9: no service <legder>",))))
    assert "access.yaml:14:9: no service <legder>" in found.text
    assert "The last good policy stays in force." in found.text


def test_a_granted_edge_that_was_refused_needs_attention(snapshot: Snapshot) -> None:
    assert "Granted, and refused all the same" in read(snapshot, [edge(WEB, DB, 1, 1, 0)]).text
    assert "Needs attention" not in read(snapshot, [edge(WEB, DB, 1, 0, 0)]).text


def test_strangers_without_end_do_not_fill_the_page(snapshot: Snapshot) -> None:
    seen = [edge(f"spiffe://x/y/z/{number}", DB, 0, 1, 0) for number in range(5000)]
    text = page(Parts(snapshot, seen))
    found = Read(text)
    assert len(links(found, "stray")) <= 200
    assert len(links(found, "stranger")) <= 40
    assert "not drawn" in found.text
    assert len(text) < 1_000_000


def test_assets_are_what_the_page_asks_for() -> None:
    assert set(assets()) == {"page.css", "page.js", "icon.svg"}
    for name, (kind, content) in assets().items():
        assert content
        assert address(name).startswith(f"assets/{name}?")
        assert kind.split("/")[0] in {"text", "image"}
        addresses = set(re.findall(rb"https?://[^\"' )]+", content))
        assert addresses <= {b"http://www.w3.org/2000/svg"}


def test_the_headers_allow_nothing_that_is_not_ours() -> None:
    policy = HEADERS["Content-Security-Policy"]
    directives = {name: rest for name, *rest in (part.split() for part in policy.split(";"))}
    assert directives["default-src"] == ["'none'"]
    assert "unsafe" not in policy
    assert all(source in {"'self'", "'none'"} for rest in directives.values() for source in rest)


def _drawn() -> Snapshot:
    """One for all examples of a property."""
    return _DRAWN[0]


_DRAWN: list[Snapshot] = []


@pytest.fixture(autouse=True, scope="module")
def drawn(snapshot: Snapshot) -> None:
    _DRAWN.append(snapshot)


def test_the_static_files_are_in_the_package() -> None:
    folder = Path(__file__).parents[3] / "engine" / "page" / "static"
    assert {path.name for path in folder.iterdir()} == set(assets())
