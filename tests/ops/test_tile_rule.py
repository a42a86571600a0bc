"""The script that fits the tile rule's constant on a device."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from acmix_bench.ops import attention

FILE = Path(__file__).resolve().parents[2] / "examples" / "fit_tile_rule.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("fit_tile_rule", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(attention.GATHER_COST, "cpu", attention.GATHER_COST["cpu"])  # it tries others
    return module


def test_a_constant_is_judged_by_the_edges_that_it_chooses(script: ModuleType) -> None:
    times = {2: 3.0, 4: 1.0, 7: 2.0, 56: 9.0}
    losses = {constant: script.loss_of(constant, {(64, 56, 1): times}, "cpu") for constant in (1, 16, 64)}
    assert losses == {1: (pytest.approx(3), [2]), 16: (pytest.approx(1), [4]), 64: (pytest.approx(2), [7])}


def test_it_measures_and_tells_the_constant(script: ModuleType, monkeypatch, capsys) -> None:
    monkeypatch.setattr(script, "CASES", [(8, 12, 1), (8, 13, 2)])
    monkeypatch.setattr(script, "SAMPLE_SECONDS", 0.0)
    monkeypatch.setattr(sys, "argv", ["fit_tile_rule.py", "--seconds", "0.01", "--batch", "1"])
    script.main()
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"  2: [\d.]+ \([\d.]+\), 3: .* 12: ", lines[1])
    assert len([line for line in lines if line.startswith("G ")]) == len(script.CONSTANTS)
    assert re.match(r"GATHER_COST of cpu: \d+ \(cpu, float32, batch 1, torch ", lines[-1])
