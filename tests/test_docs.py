"""What the README shows is what the committed records give, and what it tells to type exists."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from acmix_bench.analysis.compare import compare
from acmix_bench.cli import app
from acmix_bench.report.frame import to_csv
from acmix_bench.report.table import render, tables
from acmix_bench.runs.store import Store

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHOWN = re.findall(r"```text\n(.*?)\n```", README, re.DOTALL)
RUNS = ("paths", "speed", "speed-default", "latency", "memory", "ledger", "backbones")
ALL_RUNS = sorted(path.parent for path in (ROOT / "results" / "shown").glob("*/run.json"))
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize(("block", "run"), list(zip(SHOWN, RUNS, strict=True)))
def test_the_tables_are_those_of_the_committed_records(block: str, run: str) -> None:
    comparison = compare(Store(ROOT / "results" / "shown" / run).load())
    assert block in "\n".join(table.render("text") for table in tables(comparison))
    assert all(line.missing == 0 and not line.failures for line in comparison.lines)


@pytest.mark.parametrize("folder", ALL_RUNS, ids=lambda folder: folder.name)
def test_the_committed_tables_are_those_of_the_records_beside_them(folder: Path) -> None:
    comparison = compare(Store(folder).load())
    assert (folder / "table.md").read_text() == render(comparison, "md")
    # The last digits of an interval depend on the version of scipy.
    kept, made = (
        list(csv.DictReader(io.StringIO(text))) for text in ((folder / "table.csv").read_text(), to_csv(comparison))
    )
    assert [list(row) for row in kept] == [list(row) for row in made]
    for ours, theirs in zip(made, kept, strict=True):
        for key, value in ours.items():
            assert value == theirs[key] or float(value) == pytest.approx(float(theirs[key]), rel=1e-7)


def test_the_ledger_is_what_the_command_prints() -> None:
    """What this package counts itself; what other libraries' counters say depends on their versions."""
    printed = CliRunner().invoke(app, ["flops", "operator-64-acmix@28", "--strict"])
    assert printed.exit_code == 0
    row = r"operator-64-acmix@28 +20\.0 M +20\.0 M \(=\) +25\.2 M +55\.4 M"
    assert re.search(row, SHOWN[RUNS.index("ledger")])
    assert re.search(row, printed.stdout)


def test_every_command_exists() -> None:
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    used = set(re.findall(r"^    acmix-bench ([\w-]+)", README, re.MULTILINE))
    assert used <= known
    assert known <= used | {"serve"}


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_linked_exists(page: str) -> None:
    path = ROOT / page
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_exists(page: str) -> None:
    for name in re.findall(
        r"`((?:acmix_bench|examples|tests|results/published|results/shown)/[\w./-]+)`", (ROOT / page).read_text()
    ):
        assert (ROOT / name).exists(), name


def test_the_glossary_is_short() -> None:
    glossary = (ROOT / "docs" / "architecture.md").read_text().partition("## Words")[2].partition("\n## ")[0]
    assert 5 <= len(re.findall(r"\*\*", glossary)) // 2 <= 15
