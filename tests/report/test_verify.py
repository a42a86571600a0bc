"""One changed digit is found in every format; a file that nobody touched matches, wherever it is."""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from acmix_bench.analysis.compare import Comparison, compare
from acmix_bench.cli import app
from acmix_bench.errors import UserError
from acmix_bench.report.frame import to_csv, to_json
from acmix_bench.report.stamp import MARK, stamp, stamped, taken
from acmix_bench.report.table import render
from acmix_bench.report.verify import verify
from acmix_bench.runs.store import Store

SHOWN = Path(__file__).parent.parent.parent / "results" / "shown"
RUNS = sorted(path.parent.name for path in SHOWN.glob("*/run.json"))
STYLES = ("text", "md", "tex", "csv", "json")


@cache
def shown(name: str) -> Comparison:
    return compare(Store(SHOWN / name).load())


def text_of(name: str, style: str) -> str:
    if style in ("csv", "json"):
        return (to_csv if style == "csv" else to_json)(shown(name))
    return render(shown(name), style)


@cache
def rendered(name: str, style: str) -> str:
    """With a stamp that finds the run by its name."""
    return stamped(text_of(name, style), stamp(SHOWN / name, Path("/nowhere/else"), style))


def written(folder: Path, style: str, text: str) -> Path:
    path = folder / f"rendered.{style}"
    path.write_text(text, encoding="utf-8")
    return path


def call(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["table", *map(str, arguments)])
    if isinstance(done.exception, UserError):
        return 2, str(done.exception)
    return done.exit_code, done.output


@pytest.mark.parametrize(("name", "style"), [*((name, "tex") for name in RUNS), ("paths", "text"), ("paths", "json")])
def test_every_shown_run_renders_and_matches(name: str, style: str, tmp_path: Path) -> None:
    """As Markdown and CSV they are committed: see test_docs."""
    verdict = verify(written(tmp_path, style, rendered(name, style)), SHOWN)
    assert (verdict.differences, verdict.told) == ([], [])
    assert verdict.numbers > 10


@pytest.mark.parametrize(
    ("style", "then", "now", "told"),
    [
        (
            "md",
            "1.16 [1.15, 1.18]",
            "1.16 [1.15, 1.19]",
            "says 1.16 [1.15, 1.19], and the records say 1.16 [1.15, 1.18]",
        ),
        ("text", "95.94 ±0.87", "95.94 ±0.86", "says 95.94 ±0.86, and the records say 95.94 ±0.87"),
        ("tex", r"\num{1.18}", r"\num{1.19}", "says [1.15, 1.19], and the records say [1.15, 1.18]"),
        (
            "csv",
            "1.366901089393402",
            "1.366901089393403",
            "says 1.366901089393403, and the records say 1.366901089393402",
        ),
        (
            "json",
            "1.366901089393402",
            "1.366901089393403",
            "says 1.366901089393403, and the records say 1.3669010893934",
        ),
    ],
)
def test_one_changed_digit_is_found_and_named(style: str, then: str, now: str, told: str, tmp_path: Path) -> None:
    text = rendered("paths", style)
    (difference,) = verify(written(tmp_path, style, text.replace(then, now, 1)), SHOWN).differences
    assert told in difference
    assert re.search("row (paths=attention|baseline|operator=conv), column (inference|top-1)", difference)


def test_what_is_missing_or_made_up_is_told_once(tmp_path: Path) -> None:
    text = rendered("paths", "md")
    changes = {
        "is not there": text.replace(next(line for line in text.splitlines() if "mix=fixed" in line) + "\n", "", 1),
        "row mix=none: is there, and the records hold none": text.replace("| mix=fixed", "| mix=none", 1),
        "a line is not of the records: Better than all others by 9 %": f"Better than all others by 9 %\n\n{text}",
        "column top-2 %: is there": text.replace("top-1 % |", "top-2 % |", 1),
    }
    for told, changed in changes.items():
        differences = verify(written(tmp_path, "md", changed), SHOWN).differences
        assert told in "\n".join(differences)
        assert len(differences) <= 3


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=8, deadline=None, database=None)
@given(data=st.data())
def test_any_changed_digit_is_found(style: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Wherever it stands: in a table, a note or a caption."""
    text = rendered("shift-cluttered", style)
    stamps = [match.span() for match in re.finditer(r'\{("|\\"|"")version.*\}', text)]
    places = [match.start() for match in re.finditer(r"\d", text)]
    places = [place for place in places if not any(begin <= place < end for begin, end in stamps)]
    place = data.draw(st.sampled_from(places))
    digit = str((int(text[place]) + data.draw(st.integers(1, 9))) % 10)
    path = written(tmp_path_factory.mktemp("digit"), style, text[:place] + digit + text[place + 1 :])
    assert verify(path, SHOWN).differences


@pytest.mark.parametrize(("then", "now"), [("95.94 ", "95.95 "), ("168 cells", "169 cells"), ("", "")])
def test_a_page_is_held_against_its_runs(then: str, now: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two runs, one of which has moved since."""
    shutil.copytree(SHOWN / "ledger", tmp_path / "ledger")
    monkeypatch.chdir(tmp_path)
    made = CliRunner().invoke(app, ["report", str(SHOWN / "paths"), "ledger", "--out", "page.html"])
    assert made.exit_code == 0, made.output
    text = Path("page.html").read_text()
    assert then in text
    Path("page.html").write_text(text.replace(then, now, 1))
    Path("elsewhere").mkdir()
    Path("ledger").rename("elsewhere/ledger")
    code, told = call("--verify", "page.html", "--results", "elsewhere")
    assert code == bool(then), told
    assert (now if then else "are those of the records") in told


def test_a_file_finds_its_run_wherever_either_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "results"
    shutil.copytree(SHOWN / "paths", results / "paths")
    monkeypatch.chdir(tmp_path)
    assert call("paths", "--format", "tex", "--out", "a.tex", "--columns", 'parameters,macs="a, b"') == (0, "a.tex\n")
    assert r"\begin{table}" in Path("a.tex").read_text()
    assert str(tmp_path) not in Path("a.tex").read_text(), "no file tells how a machine's folders are called"
    assert call("--verify", "a.tex") == (0, "a.tex: all 12 numbers are those of the records\n")
    (tmp_path / "paper").mkdir()
    shutil.move("a.tex", "paper/b.tex")
    assert call("--verify", "paper/b.tex")[0] == 0, "by its name below results"
    shutil.move("results", "kept")
    code, told = call("--verify", "paper/b.tex")
    assert code == 2
    assert "name it: acmix-bench table RUN --verify paper/b.tex" in told
    assert call("kept/paths", "--verify", "paper/b.tex")[0] == 0
    assert call("--verify", "paper/b.tex", "--results", "kept")[0] == 0
    assert call("--verify", "kept/paths/table.md")[0] == 0


def test_records_that_changed_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "paths"
    shutil.copytree(SHOWN / "paths", folder)
    records = folder / "records.jsonl"
    records.write_text(records.read_text() + records.read_text().splitlines()[-1] + "\n")
    code, told = call("--verify", folder / "table.csv")
    assert code == 1
    assert "records.jsonl: is not what it was when this was rendered" in told
    changed = re.sub(r'"accuracy": ?0\.\d+', '"accuracy":0.5', records.read_text())
    records.write_text(changed)
    code, told = call("--verify", folder / "table.md")
    assert code == 1
    assert "row operator=conv, column top-1 %: says 97.72 ±0.51, and the records say 50" in told


@pytest.mark.parametrize("style", ["md", "csv"])
def test_another_version_is_told_and_its_numbers_hold(style: str, tmp_path: Path) -> None:
    text = text_of("paths", style)
    if style == "md":
        text = text.replace("Multiply-adds of one image", "MACs of one image")
    else:  # the last digits of an interval depend on the version of scipy
        text = text.replace("1.366901089393402", "1.366901089393409")
    old = stamp(SHOWN / "paths", tmp_path / "a", style).model_copy(update={"version": "0.0.1"})
    verdict = verify(written(tmp_path, style, stamped(text, old)), SHOWN)
    assert verdict.differences == []
    assert verdict.told[0].startswith("rendered by acmix-bench 0.0.1; this is ")


def test_a_mistake_is_told_in_a_line(tmp_path: Path) -> None:
    plain, odd = tmp_path / "plain.md", tmp_path / "odd.md"
    plain.write_text("| a |\n")
    odd.write_text(f"<!-- {MARK}{{}} -->")
    binary = tmp_path / "binary.md"
    binary.write_bytes(b"\xff\xfe")
    for path, told in (
        (plain, "carries no stamp"),
        (odd, "its stamp is none that this version can read"),
        (binary, "is not a text file"),
        (tmp_path, "cannot be read"),
        (tmp_path / "no", "cannot be read"),
    ):
        with pytest.raises(UserError, match=told):
            verify(path, SHOWN)
        assert call("--verify", path)[0] == 2
    assert call()[0] == 2
    assert call("--verify", SHOWN / "paths" / "table.md", "--out", tmp_path / "x")[0] == 2
    assert call("paths", "--standalone", "--results", SHOWN)[0] == 2
    assert call("paths", "--format", "csv", "--columns", "macs", "--results", SHOWN)[0] == 2


def test_a_stamp_ends_no_comment(tmp_path: Path) -> None:
    folder = tmp_path / "a --> b"
    shutil.copytree(SHOWN / "ledger", folder)
    text = stamped("x\n", stamp(folder, tmp_path / "x.md", "md"))
    assert text.count("-->") == 1
    assert taken(text)[1].runs[0].name == "a --> b"
