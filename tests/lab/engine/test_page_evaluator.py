"""The page of a running evaluator, in a real browser."""

from pathlib import Path

import httpx
import pytest
from playwright.async_api import async_playwright, expect

from tests.engine.conftest import Database, Write
from tests.engine.running import Running, environment, running
from tests.engine.samples import API, DB, POLICY, WEB
from tests.lab.engine.chromium import FLAGS, SCREENSHOTS, WINDOW, executable


@pytest.mark.anyio
async def test_the_evaluators_own_page(
    write_policy: Write, database: Database, tmp_path: Path
) -> None:
    """The whole way: a decision is made, recorded, drained, and appears in the table."""
    settings = environment(write_policy(POLICY), database, tmp_path / "state")
    async with running(settings) as engine, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable(), args=FLAGS)
        page = await browser.new_page(viewport=WINDOW)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(f"{engine.api}/")
        await expect(page.locator("#graph .node")).to_have_count(8)
        await expect(page.locator("#updated")).to_contain_text("0 shown")
        await decide(engine, API, WEB)
        row = page.locator("#decisions tr")
        await expect(row).to_have_count(1, timeout=10_000)
        await expect(row).to_contain_text("DENY")
        await row.get_by_text("Explain").click()
        answer = page.locator("#explanation")
        await expect(answer).to_contain_text("DENY by default (no_rule)", timeout=15_000)
        await expect(answer.get_by_role("cell", name="sidecar RBAC")).to_be_visible()
        await page.reload()
        await expect(page.locator(".attention")).to_contain_text("api → web")
        await page.get_by_label("Source", exact=True).fill(WEB)
        await page.get_by_label("Destination", exact=True).fill(DB)
        await page.get_by_label("Port", exact=True).fill("5432")
        await page.get_by_role("button", name="Explain").click()
        await expect(answer).to_contain_text("ALLOW by core/rule-1", timeout=15_000)
        await page.screenshot(path=SCREENSHOTS / "evaluator.png", full_page=True)
        await browser.close()
        assert complaints == []


async def decide(engine: Running, source: str, destination: str) -> None:
    question = {"source": source, "destination": destination, "port": 5432}
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{engine.api}/v1/evaluate", json=question)
    assert answer.status_code == 200
