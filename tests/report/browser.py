"""Pages in a real browser, as `nox -s browser` opens them: `python tests/report/browser.py CHROMIUM PAGE...`.

It runs where playwright is installed, which is all that it needs beside the pages and a Chromium of the system. Of each
page it leaves pictures at the widths of a desk and of a phone, and what is printed, for somebody to look at.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
# The least contrast of any text with what it stands on, and that text; figures draw theirs as paths.
CONTRAST = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => numbers(colour).slice(0, 3)
    .map((part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  let least = [99, ""];
  for (const element of document.querySelectorAll("body *:not(svg, svg *, script)")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    let below = element;
    while (below && numbers(getComputedStyle(below).backgroundColor)[3] === 0) below = below.parentElement;
    const pair = [getComputedStyle(element).color, getComputedStyle(below).backgroundColor].map(luminance);
    const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (contrast < least[0]) least = [contrast, element.textContent.slice(0, 60)];
  }
  return least;
}"""


def main(chromium: str, pages: list[Path]) -> None:
    """Check every page; an assertion that does not hold ends it."""
    with sync_playwright() as playwright:
        # In a container Chromium may find no rights for a sandbox of its own; the pages are ours.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for page in pages:
            for check in (is_quiet_at_a_desk, sorts, shows_samples, fits_a_phone, is_whole_without_scripts, prints):
                check(browser, page)
            print(f"{page.name}: opens, sorts, shows samples, fits a phone, needs no script, prints")


def opened(browser: Browser, page: Path, size: Any = DESK, **options: Any) -> tuple[Page, list[str]]:
    """A page in a window of its own, and what it complains of: errors, and whatever it would fetch."""
    tab, told = browser.new_page(viewport=size, **options), list[str]()
    tab.on("console", lambda message: told.append(message.text))
    tab.on("pageerror", lambda error: told.append(str(error)))
    tab.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else told.append(request.url))
    tab.goto(page.resolve().as_uri())
    return tab, told


def is_quiet_at_a_desk(browser: Browser, page: Path) -> None:
    """Nothing is complained of, nothing is fetched, and every text can be read, on a light ground and a dark one."""
    for scheme in ("dark", "light"):
        tab, told = opened(browser, page, color_scheme=scheme)
        contrast, text = tab.evaluate(CONTRAST)
        assert contrast >= 4.5, f"{page}: {scheme}: contrast {contrast:.2f} of '{text}'"
        assert tab.evaluate("document.documentElement.scrollWidth") <= DESK["width"]
        tab.screenshot(path=page.with_suffix(f".{scheme}.png"), full_page=scheme == "light")
        assert not told, told
        tab.close()


def sorts(browser: Browser, page: Path) -> None:
    """A click sorts a column, the next one the other way round, the third as before; so does the keyboard."""
    tab, told = opened(browser, page)
    table = tab.locator("table.numbers").filter(has=tab.locator("td[data-sort]")).first
    column = table.locator("tbody tr").first.locator("th, td").count() - 1
    while not table.locator(f"tbody tr > :nth-child({column + 1})[data-sort]").count():
        column -= 1
    head = table.locator("thead th").nth(column)

    def keys() -> list[str]:
        cells = table.locator(f"tbody tr > :nth-child({column + 1})").all()
        return [cell.get_attribute("data-sort") or "" for cell in cells]

    before = keys()
    rising = sorted((key for key in before if key), key=float)
    empty = [key for key in before if not key]
    head.get_by_role("button").click()
    assert keys() == [*rising, *empty], keys()
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").press("Enter")
    assert keys() == [*rising[::-1], *empty], keys()
    assert head.get_attribute("aria-sort") == "descending"
    head.get_by_role("button").click()
    assert keys() == before
    table.locator("thead th").first.get_by_role("button").click()
    labels = table.locator("tbody th").all_text_contents()
    assert labels == sorted(labels, key=natural), labels
    assert not told, told
    tab.close()


def natural(label: str) -> list[tuple[bool, int, str]]:
    """The key of an order in which 64 comes before 128; signs do not count."""
    parts = re.findall(r"\d+|[a-z]+", label.casefold())
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def shows_samples(browser: Browser, page: Path) -> None:
    """Where one points at a row or a dot, or comes to a row by the keyboard; and Escape ends it."""
    tab, told = opened(browser, page, reduced_motion="reduce")
    rows, card = tab.locator("tr[data-row]"), tab.locator("#samples")
    if rows.count():
        rows.first.locator("td").first.hover()
        card.wait_for(state="visible", timeout=2000)
        assert card.locator("circle").count() > 1
        tab.mouse.move(0, 0)
        card.wait_for(state="hidden", timeout=2000)
        tab.keyboard.press("Tab")
        rows.first.locator("a").focus()
        card.wait_for(state="visible", timeout=2000)
        tab.keyboard.press("Escape")
        card.wait_for(state="hidden", timeout=2000)
        strip = tab.locator(".samples li").first
        shown = strip.locator(".value").text_content()
        strip.locator(".strip").hover()
        assert strip.locator(".value").text_content() in strip.locator("circle title").all_text_contents()
        tab.mouse.move(0, 0)
        assert strip.locator(".value").text_content() == shown
    assert not told, told
    tab.close()


def fits_a_phone(browser: Browser, page: Path) -> None:
    """The page is no wider than the screen, and what is wider scrolls by itself."""
    tab, told = opened(browser, page, PHONE, has_touch=True)
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    tab.screenshot(path=page.with_suffix(".phone.png"), full_page=True)
    assert not told, told
    tab.close()


def is_whole_without_scripts(browser: Browser, page: Path) -> None:
    """Every text, figure and sample is there."""
    with_scripts, _ = opened(browser, page)
    without, told = opened(browser, page, java_script_enabled=False)
    for part in ("main", "table", "td", "figure", "circle"):
        counts = [tab.locator(f"main {part}" if part != "main" else part).count() for tab in (with_scripts, without)]
        assert counts[0] == counts[1], f"{page}: {part}: {counts}"
    assert without.locator("main").text_content() == with_scripts.locator("main").text_content()
    assert all(table.is_visible() for table in without.locator("table").all())
    assert not told, told
    with_scripts.close()
    without.close()


def prints(browser: Browser, page: Path) -> None:
    """As PDF: in black on white, with what is folded up on the screen."""
    tab, told = opened(browser, page, color_scheme="dark")
    content = tab.pdf(path=page.with_suffix(".pdf"), format="A4")
    assert content.startswith(b"%PDF")
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert not tab.locator("nav").is_visible()
    assert not tab.evaluate(
        "[...document.querySelectorAll('*')].some((e) => getComputedStyle(e).position === 'sticky')"
    )
    assert all(code.is_visible() for code in tab.locator("details pre").all())
    assert not told, told
    tab.close()


if __name__ == "__main__":
    main(sys.argv[1], [Path(argument) for argument in sys.argv[2:]])
