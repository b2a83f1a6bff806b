"""The page in a real browser: Debian's chromium, driven over its DevTools protocol."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped] # publishes none
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    expect,
    sync_playwright,
)

from lab.mesh.policies import read
from tests.lab.engine.chromium import FLAGS, SCREENSHOTS, WINDOW, executable
from tests.lab.engine.site import HOSTILE, POLICIES, Site, edge, party, serving


@dataclass
class Visit:
    """A page that is open, what it asked for, and what it complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # A new, empty profile each time.
        found = playwright.chromium.launch(executable_path=executable(), args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(tmp_path / "policy") as found:
        for _ in range(3):
            found.decide(party("chat"), party("gateway"), "ALLOW", "ALLOW")
        yield found


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    found = browser.new_context(viewport=WINDOW, reduced_motion="reduce")
    yield found
    found.close()


@pytest.fixture
def visit(context: BrowserContext, site: Site) -> Visit:
    return open_page(context, site)


def open_page(context: BrowserContext, site: Site) -> Visit:
    page = context.new_page()
    found = Visit(page)
    page.on("request", lambda request: found.requests.append(request.url))
    page.on("console", lambda message: found.complaints.append(message.text))
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.goto(site.address)
    return found


def rows(page: Page) -> int:
    return page.locator("#decisions tr").count()


def focused(page: Page) -> str:
    name = page.evaluate("document.activeElement.getAttribute('aria-label') || ''")
    assert isinstance(name, str)
    return name


def save(page: Page, name: str, *, whole: bool = False) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=whole)


def test_the_graph_is_seen_and_nothing_comes_from_elsewhere(visit: Visit, site: Site) -> None:
    page = visit.page
    expect(page.locator("#graph")).to_be_visible()
    expect(page.locator("#decisions tr")).to_have_count(3)
    nodes = page.locator("#graph .node")
    policy = read(POLICIES)
    # Two that are seen are declared nowhere.
    assert nodes.count() == len(policy.services) + len(policy.externals) + 2
    boxes = [nodes.nth(index).bounding_box() for index in range(nodes.count())]
    assert all(box and box["width"] > 40 and box["height"] > 20 for box in boxes)
    save(page, "page", whole=True)
    assert {urlsplit(url).netloc for url in visit.requests} == {urlsplit(site.address).netloc}
    assert len({urlsplit(url).path for url in visit.requests}) == 5
    assert visit.complaints == []


def test_kinds_of_edges_differ_by_more_than_colour(visit: Visit) -> None:
    """By how the line is dashed, and by the sign on it."""
    looks = visit.page.evaluate(
        """() => Object.fromEntries(["seen", "unseen", "undeclared", "refused"].map((kind) => {
            const edge = document.querySelector(`#graph .edge.${kind}`);
            const dashes = getComputedStyle(edge.querySelector(".line")).strokeDasharray;
            return [kind, [dashes, edge.querySelector(".glyph")?.textContent || ""].join(" ")];
        }))"""
    )
    assert len(set(looks.values())) == 4
    legend = visit.page.locator(".legend li").all_inner_texts()
    assert [words.split("\n")[-1] for words in legend] == [
        "Granted and seen",
        "Granted, not seen",
        "Not granted, but let pass",
        "Refused",
    ]


def test_the_keyboard_reaches_every_node_and_every_stray(visit: Visit) -> None:
    page = visit.page
    expected = page.evaluate(
        """() => [...document.querySelectorAll("#graph a:not([tabindex])")]
            .map((link) => link.getAttribute("aria-label"))"""
    )
    page.locator("#picture > .scroll").focus()
    reached = []
    for _ in expected:
        page.keyboard.press("Tab")
        reached.append(focused(page))
    assert reached == expected
    assert all(reached)
    assert sum("Refused" in name for name in reached) == 3


def test_arrow_keys_lead_along_edges_and_enter_shows_facts(visit: Visit) -> None:
    page = visit.page
    page.locator('#graph .node[aria-label^="iam"]').focus()
    assert "near" in (
        page.locator('#graph .node[aria-label^="postgres"]').get_attribute("class") or ""
    )
    page.keyboard.press("ArrowRight")
    first = focused(page)
    page.keyboard.press("ArrowDown")
    second = focused(page)
    assert first != second
    assert first.startswith("iam to ")
    assert second.startswith("iam to ")
    page.keyboard.press("ArrowRight")
    assert focused(page) in {"postgres, postgres · enforce", "redis, redis · enforce"}
    page.locator('#graph [aria-label^="iam to postgres"]').focus()
    page.keyboard.press("Enter")
    fact = page.locator(".fact.open")
    expect(fact).to_be_visible()
    expect(fact).to_contain_text("hanzo-core-policy/rule-1")
    expect(fact).to_contain_text("3,311")
    save(page, "facts")
    page.keyboard.press("Escape")
    expect(page.locator(".fact.open")).to_have_count(0)
    assert focused(page).startswith("iam to postgres")


def test_facts_are_there_without_a_script(browser: Browser, site: Site) -> None:
    context = browser.new_context(viewport=WINDOW, java_script_enabled=False)
    page = open_page(context, site).page
    expect(page.locator("#graph")).to_be_visible()
    page.locator('.attention a:has-text("debug-shell")').click()
    fact = page.locator(".fact:target")
    expect(fact).to_be_visible()
    expect(fact).to_contain_text("debug-shell → minio")
    context.close()


def test_the_table_follows_the_trail(visit: Visit, site: Site) -> None:
    page = visit.page
    expect(page.locator("#decisions tr")).to_have_count(3)
    page.evaluate("window.before = document.querySelector('#decisions tr')")
    site.decide(party("flow"), party("redis"), "ALLOW", "DENY")
    expect(page.locator("#decisions tr")).to_have_count(4, timeout=6000)
    expect(page.locator("#decisions tr").first).to_contain_text("ALLOW, would be DENY")
    assert page.evaluate("window.before.isConnected && window.before.rowIndex") == 2
    page.get_by_label("only refused").check()
    expect(page.locator("#decisions tr:visible")).to_have_count(1)
    assert page.evaluate("performance.getEntriesByType('navigation').length") == 1


def test_the_table_shows_no_more_than_fifty(visit: Visit, site: Site) -> None:
    for _ in range(80):
        site.decide(None, party("redis"), "DENY", "DENY")
    expect(visit.page.locator("#decisions tr")).to_have_count(50, timeout=6000)
    expect(visit.page.locator("#decisions tr").first).to_contain_text("no identity")


def test_the_table_pauses_and_stops_when_nobody_looks(visit: Visit, site: Site) -> None:
    page = visit.page
    expect(page.locator("#decisions tr")).to_have_count(3)
    page.get_by_role("button", name="Pause").click()
    asked = site.asked
    page.wait_for_timeout(3000)
    assert site.asked == asked
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#updated")).to_contain_text("3 shown")
    page.evaluate(
        """() => {
            Object.defineProperty(document, "hidden", { value: true, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    page.wait_for_timeout(300)
    asked = site.asked
    page.wait_for_timeout(3000)
    assert site.asked == asked
    page.evaluate(
        """() => {
            Object.defineProperty(document, "hidden", { value: false, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    page.wait_for_timeout(2500)
    assert site.asked > asked


def test_a_trail_that_cannot_be_read_is_told_and_tried_again(visit: Visit, site: Site) -> None:
    status = visit.page.locator("#updated")
    expect(status).to_contain_text("3 shown")
    site.fails = True
    expect(status).to_contain_text("the audit trail cannot be read now", timeout=6000)
    assert rows(visit.page) == 3
    site.fails = False
    expect(status).to_contain_text("3 shown", timeout=6000)


def test_nothing_that_others_wrote_becomes_markup(context: BrowserContext, site: Site) -> None:
    site.edges.append(edge(HOSTILE, party("minio"), 9000, 0, 1, 0))
    site.problems = ("access.yaml:1:1: <script>window.broken=1</script>",)
    site.decide(HOSTILE, "<b>bold</b>", "DENY", "DENY")
    visit = open_page(context, site)
    expect(visit.page.locator("#decisions tr")).to_have_count(4)
    expect(visit.page.locator("#decisions tr").first).to_contain_text("<b>bold</b>")
    expect(visit.page.locator("#problems")).to_contain_text("<script>")
    assert visit.page.evaluate("window.broken === undefined")
    assert visit.page.locator("img").count() == 0
    assert visit.complaints == []


def test_the_browser_holds_the_page_to_its_policy(visit: Visit) -> None:
    page = visit.page
    violated = page.evaluate(
        """async () => {
            const found = [];
            document.addEventListener("securitypolicyviolation",
                (event) => found.push(event.effectiveDirective));
            const script = document.createElement("script");
            script.textContent = "window.broken = 1";
            document.body.append(script);
            document.body.setAttribute("style", "color: red");
            await fetch("http://127.0.0.2:1/").catch(() => null);
            await new Promise((done) => setTimeout(done, 200));
            return found;
        }"""
    )
    assert set(violated) == {"script-src-elem", "style-src-attr", "connect-src"}
    assert page.evaluate("window.broken === undefined")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility_rules_find_nothing(browser: Browser, site: Site, scheme: str) -> None:
    context = browser.new_context(
        viewport=WINDOW, color_scheme="dark" if scheme == "dark" else "light", bypass_csp=True
    )
    page = open_page(context, site).page
    expect(page.locator("#decisions tr")).to_have_count(3)
    save(page, scheme)
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    context.close()


@pytest.mark.parametrize("width", [400, 800, 1920])
def test_the_page_fits_the_window(context: BrowserContext, site: Site, width: int) -> None:
    """The graph and the tables scroll by themselves."""
    page = open_page(context, site).page
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
