"""What somebody sees at a terminal: widths, colours, and plain text everywhere else."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from acmix_bench import api
from acmix_bench.report.table import tables
from acmix_bench.report.table.grid import Table
from acmix_bench.runs.progress import Progress

ROOT = Path(__file__).parents[2]
COLOUR = re.compile(r"\x1b\[[\d;]*m")


def on_terminal(*arguments: str, width: int = 100, folder: Path = ROOT, **environment: str) -> str:
    """What a command writes to a terminal of this width."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "acmix_bench", *arguments]
    known = {"COLUMNS": str(width), "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)} | environment
    clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, cwd=folder, env=clean | known)
    os.close(theirs)
    told = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        told += part
    process.wait(timeout=60)
    os.close(ours)
    return told.decode().replace("\r\n", "\n")


PATHS = ("table", "paths", "--results", "results/shown")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_table_is_as_wide_as_the_window_and_nothing_is_cut(width: int) -> None:
    told = COLOUR.sub("", on_terminal(*PATHS, width=width))
    assert max(map(len, told.splitlines())) <= width
    assert "…" not in told
    plain = "\n".join(table.render("text") for table in tables(api.load("paths", ROOT / "results/shown").comparison))
    for table in tables(api.load("paths", ROOT / "results/shown").comparison):
        for cell in (cell for row in table.rows for cell in row):
            for word in cell.split():
                assert word in plain
    if width >= 80:
        assert all(word in told for word in ("paths=attention", "[3980, 4848]", "±0.87", "noise"))


def test_what_is_best_noise_or_failed_is_marked() -> None:
    told = on_terminal(*PATHS, width=160)
    assert "\x1b[1m5492 [5262, 7063]" in told
    assert re.search(r"\x1b\[2m *\+0.3 ±0.7 noise", told)
    assert not re.search(r"\x1b\[1m *97.72", told), "its lead is noise"


def test_what_is_piped_or_without_colour_is_plain() -> None:
    comparison = api.load("paths", ROOT / "results/shown").comparison
    plain = "\n".join(table.render("text") for table in tables(comparison))
    assert on_terminal(*PATHS, NO_COLOR="1") == plain
    assert on_terminal(*PATHS, TERM="dumb") == plain


def test_a_failed_row_is_red_with_its_reason(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    from acmix_bench.cli import terminal

    rows = [["one", "1.00"], ["two", "crashed"]]
    table = Table(
        title="t", header=["variant", "n"], rows=rows, problems=["two: macs crashed: no memory"], notes=["why"]
    )
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal.show([table], notes=False)
    told = capsys.readouterr().out
    assert "\x1b[31mcrashed\x1b[0m" in told
    assert "\x1b[31mtwo: macs crashed: no memory\x1b[0m" in told
    assert "why" not in told


def test_progress_tells_a_name_as_it_is(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    Progress([], {}).say("operator=mine.py:Star: [bold]training crashed\x1b[2J")
    assert "mine.py:Star: [bold]training crashed\\x1b[2J" in capsys.readouterr().err, "and it commands no terminal"


def test_a_list_is_in_two_columns() -> None:
    told = COLOUR.sub("", on_terminal("list", "variants", width=80)).splitlines()[1:]
    assert {len(re.match(r"  \S* +", line)[0]) for line in told} == {len("  plain-fused-compiled ")}


def test_help_is_in_groups_on_a_terminal_alone() -> None:
    told = COLOUR.sub("", on_terminal("--help", width=80))
    assert all(f"╭─ {group} ─" in told for group in ("Measure", "Look", "Bring your own"))
    assert max(map(len, told.splitlines())) <= 80
    assert "[/]" not in told
    assert "[bold]" not in told
    assert "╭" not in on_terminal("--help", NO_COLOR="1")
    ablate = COLOUR.sub("", on_terminal("ablate", "-h", width=80))
    assert "What is printed" in ablate
    assert "acmix-bench ablate --variant shift=tensor" in ablate


def completed(folder: Path, *words: str) -> list[str]:
    """What a shell offers for the last word."""
    environment = {"_ACMIX_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words)}
    environment |= {"COMP_CWORD": str(len(words) - 1), "PYTHONPATH": str(ROOT)}
    code = "import sys; sys.argv[0] = 'acmix-bench'; from acmix_bench.__main__ import main; main()"
    command = [sys.executable, "-c", code]
    answer = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    return answer.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("ab",), {"ablate"}),
        (("ablate", "-e", "paths-s"), {"paths-swin"}),
        (("ablate", "--variant", "shift"), {"shift-tensor", "shift=tensor", "shift=group"}),
        (("ablate", "--set", "epo"), {"epochs="}),
        (("flops", "resnet50"), {"resnet50"}),
        (("flops", "resnet50-ac"), {"resnet50-acmix"}),
        (("throughput", "pvt-s-mix"), {"pvt-s-mix-alpha", "pvt-s-mix-fixed"}),
        (("list", "back"), {"backbones"}),
        (("show", "swin"), {"swin", "swin-t", "swin-s"}),
        (("table", "mi"), {"mine"}),
        (("table", "x", "--format", "p"), {"parquet"}),
    ],
)
def test_a_shell_completes_names(words: tuple[str, ...], offered: set[str], tmp_path: Path) -> None:
    (tmp_path / "results/mine").mkdir(parents=True)
    (tmp_path / "results/mine/run.json").write_text("{}")
    assert set(completed(tmp_path, "acmix-bench", *words)) == offered
