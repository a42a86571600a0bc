"""What the README shows is what the committed records give, and what it tells to type exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from acmix_bench.cli import app
from acmix_bench.compare import compare
from acmix_bench.record import Store
from acmix_bench.table import tables

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHOWN = re.findall(r"```text\n(.*?)\n```", README, re.DOTALL)


RUNS = ("paths", "speed", "speed-default", "latency", "memory", "ledger", "backbones")


@pytest.mark.parametrize(("block", "run"), [pair for pair in zip(SHOWN, RUNS, strict=True) if pair[1] != "ledger"])
def test_the_tables_are_those_of_the_committed_records(block: str, run: str) -> None:
    comparison = compare(Store(ROOT / "docs" / "results" / run).load())
    assert block in "\n".join(table.render("text") for table in tables(comparison))
    assert all(line.missing == 0 and not line.failures for line in comparison.lines)


def test_the_ledger_is_what_the_command_prints() -> None:
    printed = CliRunner().invoke(app, ["flops", "operator-64-acmix@28", "--strict"])
    assert printed.exit_code == 0
    assert SHOWN[RUNS.index("ledger")] in printed.stdout


def test_every_command_exists() -> None:
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    used = set(re.findall(r"^    acmix-bench ([\w-]+)", README, re.MULTILINE))
    assert used <= known
    assert known <= used | {"show", "serve"}


def test_every_file_that_is_linked_exists() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link
