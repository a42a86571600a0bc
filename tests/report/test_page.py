"""The HTML page: well formed, whole without JavaScript, harmless whatever a run is called, and bounded."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from package import ROOT
from typer.testing import CliRunner

from acmix_bench.analysis.compare import compare
from acmix_bench.cli import app
from acmix_bench.report import page
from acmix_bench.report.page import figures, samples, tables
from acmix_bench.report.page.tables import sort_key
from acmix_bench.report.table import tables as tables_of
from acmix_bench.runs.record import Run
from acmix_bench.runs.store import Store
from acmix_bench.spec import library

SHOWN = ROOT / "results/shown"
RUNS = sorted(path.parent.name for path in SHOWN.glob("*/run.json"))
VOID = {"meta", "br", "img"}
EMPTY_IN_SVG = {"path", "use", "circle", "g", "line", "rect"}
HOSTILE = "</script><img src=x onerror=alert(1)>\x1b[2J'\" & {{ 7 * 7 }}"


class Read(HTMLParser):
    """A page that is well formed: its elements with their attributes, and the text of each cell."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, "an element is not closed"
        ids = [found["id"] for _, found in self.elements if "id" in found]
        assert len(ids) == len(set(ids)), "an id stands twice"
        targets = {(found.get("href") or "")[1:] for name, found in self.elements if name == "a"}
        targets |= {name for _, found in self.elements for name in (found.get("aria-labelledby") or "").split()}
        assert targets <= set(ids), "a link leads nowhere"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"{tag}: an attribute stands twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in EMPTY_IN_SVG, f"<{tag}/> is no element of HTML that is empty"
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.elements if name == tag]


def shown(name: str, run: Run | None = None) -> page.Shown:
    return page.Shown(name=name, folder=SHOWN / name, run=run or Store(SHOWN / name).load())


def altered(run: Run) -> Iterator[object]:
    """The records of `paths`, one row slower, one without its accuracies, one with more multiply-adds."""
    for record in run.records:
        label, meter, values = record.cell.row.label, record.cell.meter, dict(record.values)
        if (label, meter) == ("mix=alpha", "inference"):
            yield record.model_copy(update={"values": values | {"seconds": [1.5 * s for s in values["seconds"]]}})
        elif (label, meter) == ("mix=fixed", "macs"):
            yield record.model_copy(update={"values": values | {"macs": values["macs"] + 1}})
        elif (label, meter) == ("paths=conv", "accuracy"):
            told = {"status": "crashed", "reason": HOSTILE, "values": {"output": f"line 1\n{HOSTILE}\n"}}
            yield record.model_copy(update=told)
        else:
            yield record


@pytest.fixture(scope="module")
def paths() -> str:
    return page.render([shown("paths")])


@pytest.fixture(scope="module")
def two() -> str:
    run = Store(SHOWN / "paths").load()
    other = shown("speed", run.model_copy(update={"records": tuple(altered(run))}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "MOST_DRAWN", 0)  # figures take long, and `paths` has some
        return page.render([shown("paths"), other])


@pytest.mark.parametrize("name", RUNS)
def test_every_shown_run_is_a_page_with_every_number(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "MOST_DRAWN", 0)
    text = page.render([shown(name)])
    read = Read(text)
    expected = [cell for table in tables_of(compare(shown(name).run)) for row in table.rows for cell in row]
    there = iter(read.cells)
    assert all(cell in there for cell in expected), "every cell, in order"
    assert len(text) < 2**20


def test_the_page_stands_alone_and_can_be_read_by_everybody(paths: str, two: str) -> None:
    for text in (paths, two):
        read = Read(text)
        assert read.of("html") == [{"lang": "en"}]
        levels = [int(name[1]) for name, _ in read.elements if re.fullmatch(r"h[1-6]", name)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels)), levels
        assert all(cell.get("scope") in ("col", "row") for cell in read.of("th"))
        assert all(picture.get("alt") for picture in read.of("img"))
        named = {"aria-labelledby", "aria-label"}
        assert all(svg.keys() & named for svg in read.of("svg") if svg.get("role") == "img")
        assert not re.search(r'(src|href|action)="(?!#|data:)', text), "nothing is fetched"
        assert "@import" not in text
        assert "url(http" not in text
        assert len(read.of("table")) == text.count("<caption")


def test_figures_are_in_it_as_svg(paths: str) -> None:
    assert "curves: loss and score by epoch of training" in paths
    assert not re.search(r"<svg[^>]*>(?:(?!</svg>).)*<style", paths, re.DOTALL), "a style in it would be the page's"
    assert "url(#r0-intervals-" in paths


def test_raw_samples_are_those_of_the_records(paths: str) -> None:
    read, run = Read(paths), shown("paths").run
    repeated = [r for r in run.records if r.cell.meter in ("inference", "training", "accuracy")]
    assert len(read.of("circle")) == len(repeated)
    charts = samples.charts(compare(run))
    assert [len(chart.strips) for chart in charts] == [6, 6, 6]
    first = charts[2].strips[0]
    accuracies = [
        r.values["accuracy"] for r in repeated if (r.cell.row.label, r.cell.meter) == ("baseline", "accuracy")
    ]
    assert [dot.told for dot in first.dots] == [f"seed {n}: {100 * a:.2f} %" for n, a in enumerate(accuracies)]
    ordered = sorted(zip(accuracies, [dot.x for dot in first.dots], strict=True))
    assert ordered == sorted(ordered, key=lambda pair: pair[1]), "more stands further to the right"
    mean = sum(accuracies) / len(accuracies)
    assert all((dot.x > 50) == (value > mean) for dot, value in zip(first.dots, accuracies, strict=True))


def test_what_differs_between_two_runs_is_told(two: str) -> None:
    assert "<b>3</b> regressions" in two
    assert "regression: mix=alpha: inference" in two
    assert "regression: mix=fixed: macs" in two
    assert two.index(">regression<") < two.index(">same<"), "the worst stands first"


def test_runs_that_cannot_be_compared_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "MOST_DRAWN", 0)
    text = page.render([shown("memory"), shown("training")])
    assert "Timings are not compared, because they were taken under unlike conditions" in text
    assert "<li>torch (2.15.0 and 2.14.1)</li>" in text
    assert "resnet50" in text


def test_what_failed_is_told_with_the_end_of_its_output(two: str) -> None:
    assert "5 cells (paths=conv: accuracy 0," in two
    assert "<pre tabindex" in two
    assert "line 1\n&lt;/script&gt;" in two


def test_text_of_a_user_is_harmless(two: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "MOST_DRAWN", 0)  # labels as long as these leave no room in a figure
    run = shown("memory").run
    label = {row.label: f"{row.label}{HOSTILE}" for row in run.plan.rows}
    rows = tuple(row.model_copy(update={"label": label[row.label]}) for row in run.plan.rows)
    experiment = run.plan.experiment.model_copy(
        update=dict.fromkeys(("name", "question", "source", "command", "expected"), HOSTILE)
    )
    records = tuple(
        r.model_copy(
            update={
                "cell": r.cell.model_copy(
                    update={"row": r.cell.row.model_copy(update={"label": label[r.cell.row.label]})}
                )
            }
        )
        for r in run.records
    )
    plan = run.plan.model_copy(update={"rows": rows, "experiment": experiment})
    evil = run.model_copy(update={"plan": plan, "records": records})
    text = page.render([page.Shown(name=HOSTILE, folder=Path("nowhere"), run=evil)])
    for made in (text, two):
        read = Read(made)
        assert not read.of("img")
        assert len(read.of("script")) == 1
        assert "\x1b" not in made
        assert "onerror" in made, "it is there, as text"
    assert text.count("{{ 7 * 7 }}") > 5


def test_a_page_of_a_long_run_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((tables, "MOST_ROWS"), (figures, "MOST_DRAWN"), (samples, "MOST_STRIPS")):
        monkeypatch.setattr(module, name, 2)
    monkeypatch.setattr(samples, "MOST_BLOCKS", 100)
    text = page.render([shown("paths")])
    Read(text)
    for told in ("The first 2 of 6 rows.", "too many rows to be drawn", "The first 2 of 6 rows. Of the blocks, one of"):
        assert told in text
    dots = sum(path.count("h0") for path in re.findall(r'class="blocks" d="([^"]*)"', text))
    assert 30 < dots <= 100


def test_the_experiment_in_it_is_the_one_that_ran(tmp_path: Path) -> None:
    for name in ("paths", "scenes-segment", "native-networks"):
        plan = shown(name).run.plan
        file = tmp_path / f"{plan.experiment.name}.yaml"
        file.write_text(page.facts.as_yaml(plan))
        assert "name" not in yaml.safe_load(file.read_text())
        again = library.load_experiment(str(file))
        assert again.model_dump(exclude={"recipe"}) == plan.experiment.model_dump(exclude={"recipe"})


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("9.63 M", "9630000"),
        ("187 k", "187000"),
        ("2642 [2212, 2866]", "2642"),
        ("-3.8 ±1.2", "-3.8"),
        ("+0.1 ±3.6 noise", "0.1"),
        ("15 %", "15"),
        ("1,234", "1234"),
        ("-", ""),
        ("crashed", ""),
        ("4 Meter", "4"),
    ],
)
def test_cells_are_sorted_by_their_numbers(text: str, key: str) -> None:
    assert sort_key(text) == key


def test_the_command_writes_a_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "MOST_DRAWN", 0)
    monkeypatch.chdir(tmp_path)
    answer = CliRunner().invoke(app, ["report", "ledger", "--results", str(SHOWN)])
    assert answer.stdout == "ledger.html\n"
    assert Read((tmp_path / "ledger.html").read_text()).of("h1")
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.html"], "and nothing beside it"
    for out in (tmp_path, tmp_path / "no/such/folder.html", Path("/dev/null"), tmp_path / ("x" * 300)):
        answer = CliRunner().invoke(app, ["report", "ledger", "--results", str(SHOWN), "--out", str(out)])
        assert str(out)[:50] in str(answer.exception)
        assert "cannot be" in str(answer.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.html"]


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    """And no torch is loaded meanwhile: it would be most of the time that a page takes."""
    code = "import sys; from acmix_bench.report import page; assert 'torch' not in sys.modules; "
    code += "sys.argv[1:] = ['report', 'pathes', '--results', sys.argv[1]]; from acmix_bench.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", code, str(SHOWN)], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
    assert "did you mean 'paths'" in ended.stderr
    assert not list(tmp_path.iterdir())
