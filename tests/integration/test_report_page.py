"""The report in a real browser: on a phone, a tablet and a desk, in light and dark, with hostile texts in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.browser import PACKAGE, browser
from tests.support.reports import example
from tests.support.training_reports import training_page

from local_cluster import packages

pytestmark = pytest.mark.integration

#: The reports that people open: of an Evaluation, and of a training.
PAGES = {"report": lambda: example().page, "training": training_page}
WIDTHS = (360, 820, 1280)
SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "report"
#: Elements that reach beyond the window, but for those in boxes that scroll by themselves.
TOO_WIDE = """[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll'))
.filter(e => e.getBoundingClientRect().right > innerWidth + 0.5 || e.getBoundingClientRect().left < -0.5)
.map(e => e.tagName + '.' + (e.getAttribute('class') || ''))"""
#: Contrast (WCAG 2.2) of the least legible text with the colour behind it.
CONTRAST = """(() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(v => v / 255).map(
    v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
  const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
    if (c !== 'rgba(0, 0, 0, 0)') return c } };
  const ratio = e => { const [a, b] = [getComputedStyle(e).color, behind(e)].map(light).sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05) };
  return Math.min(...[...document.querySelectorAll('h1,h2,h3,p,td,th,dd,dt,small,code,.badge')].map(ratio)) })()"""


@pytest.fixture(scope="module", autouse=True)
def _chromium() -> None:
    packages.ensure([PACKAGE])


@pytest.mark.parametrize("name", PAGES)
async def test_it_fits_reads_well_and_runs_nothing(name: str, tmp_path: Path) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.html"
    path.write_text(PAGES[name](), encoding="utf-8")
    async with browser(tmp_path / "profile") as tab:
        for width in WIDTHS:
            for scheme in ("light", "dark"):
                await tab.open(path, width=width, height=900, scheme=scheme)
                (SCREENSHOTS / f"{name}-{width}-{scheme}.png").write_bytes(await tab.screenshot())
                assert await tab.evaluate(TOO_WIDE) == [], (width, scheme)
                assert await tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), (width, scheme)
                assert await tab.evaluate(CONTRAST) >= 4.5, (width, scheme)
        is_styled = "document.querySelector('h1').checkVisibility() && getComputedStyle(document.body).marginTop"
        assert await tab.evaluate(is_styled) == "0px", "its own style sheet is allowed, others are not"
        assert await tab.evaluate("[typeof pwned, document.scripts.length, document.images.length]") == [
            "undefined",
            0,
            0,
        ]
        assert tab.complaints == []
        assert set(tab.requests) == {path.as_uri()}


async def test_the_policy_stops_what_escaping_would_miss(tmp_path: Path) -> None:
    """The same page with its texts not escaped: scripts, handlers and styles are there, and are refused."""
    path = tmp_path / "unescaped.html"
    markup = "<script>window.pwned = true</script><img src='https://example.invalid/x' onerror='window.pwned = true'>"
    path.write_text(example().page.replace("</main>", f"{markup}<style>*{{display:none}}</style></main>"))
    async with browser(tmp_path / "profile") as tab:
        await tab.open(path, width=820, height=900, scheme="light")
        assert await tab.evaluate("[typeof pwned, document.scripts.length]") == ["undefined", 1]
        assert await tab.evaluate("document.querySelector('h1').checkVisibility()")
        assert sum("Content Security Policy" in complaint for complaint in tab.complaints) >= 3
