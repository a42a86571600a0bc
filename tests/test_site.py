"""Every link of the pages leads somewhere, and the site that is made of them has all of them."""

from __future__ import annotations

import re
import runpy
from collections import Counter
from pathlib import Path

import pytest
from pages import ALL_RUNS, PAGES, ROOT, TEXT, prose

from acmix_bench.spec import library

MADE = runpy.run_path(str(ROOT / "docs" / "made.py"))


def headings(page: str) -> list[str]:
    """The fragments that a page's headings answer to, as GitHub makes them."""
    seen: Counter[str] = Counter()
    found = []
    for title in re.findall(r"^#{1,6} (.*)$", prose(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower()).replace(" ", "-")
        found.append(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    path = ROOT / page
    for link in re.findall(r"\]\(([^)]*)\)", prose(page)):
        if link.startswith(("https://", "http://")):
            continue
        file, _, fragment = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        if fragment:
            assert fragment in headings(str(target.relative_to(ROOT))), link


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_exists(page: str) -> None:
    for name in re.findall(r"`((?:acmix_bench|examples|tests|results/published|results/shown)/[\w./-]+)`", TEXT[page]):
        assert (ROOT / name).exists(), name


def test_every_page_is_in_the_readme() -> None:
    index = TEXT["README.md"].partition("## Where to go on\n")[2]
    assert [page for page in PAGES if page.startswith("docs/") and f"]({page})" not in index] == []


def test_the_site_has_every_page() -> None:
    pages = {f"{page}.md" for group in MADE["CONTENTS"].values() for page in group}
    assert set(PAGES) - pages == {"README.md"}
    assert {page for page in pages if not (ROOT / page).exists()} <= {"docs/experiments/index.md", "docs/claims.md"}
    for _, modules in MADE["REFERENCE"].values():
        for module in modules:
            path = ROOT / "acmix_bench" / module.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").exists(), module


def test_every_experiment_has_a_page_with_its_shown_runs(tmp_path: Path) -> None:
    MADE["write"](tmp_path)
    made = {path.stem: path.read_text() for path in (tmp_path / "docs" / "experiments").glob("*.md")}
    ours = {path.stem for path in (ROOT / "experiments").glob("*.yaml") if path.stem != "claims"}
    assert ours < set(made)
    assert {name for name in ours if library.load_experiment(name).expected not in made[name]} == set()
    for folder in ALL_RUNS:
        ((name, page),) = [(name, page) for name, page in made.items() if f"## The run {folder.name}\n" in page]
        assert (folder / "table.md").read_text().strip() in page
        link = MADE["with_links"](f"[it](../results/shown/{folder.name}/table.md)", "docs/measuring")
        assert link == f"[it](/docs/experiments/{name}.md#the-run-{folder.name})"
    assert MADE["with_links"]("[it](../experiments/paths.yaml)", "docs/ablate") == "[it](/docs/experiments/paths.md)"


def test_a_dead_link_and_what_a_network_gives_are_found_in_a_site(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "index.html").write_text('<a id="top" href="docs/a.html#b">x</a><a href="https://example.org">y</a>')
    (tmp_path / "docs" / "a.html").write_text('<p id="b"><a href="../index.html#top">x</a><img src="../mark.png?v=1">')
    (tmp_path / "mark.png").touch()
    faults = runpy.run_path(str(ROOT / "docs" / "check_site.py"))["faults"]
    assert list(faults(tmp_path)) == []
    (tmp_path / "bad.html").write_text(
        '<a href="none.html">x</a><a href="docs/a.html#c">y</a><script src="https://example.org/a.js"></script>'
    )
    (tmp_path / "bad.css").write_text(
        "@import url(//example.org/a.css); p { background: url('https://example.org/b') }"
    )
    assert [fault.partition(": ")[2] for fault in faults(tmp_path)] == [
        "loads https://example.org/a.js",
        "no file none.html",
        "no such place docs/a.html#c",
        "loads //example.org/a.css",
        "loads https://example.org/b",
    ]
