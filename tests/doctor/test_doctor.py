"""The self-check: right things pass, wrong ones fail by name, and what ends a part's process is a fail and no end."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from typer.testing import CliRunner

from acmix_bench import doctor
from acmix_bench.cli import app
from acmix_bench.doctor import machine, memory, operators, timing
from acmix_bench.errors import UserError
from acmix_bench.runs.contract import Broken, NotPromised, Promise
from acmix_bench.runs.contract_operator import TRIALS

CPU = torch.device("cpu")


def by_name(promises: Iterator[Promise]) -> dict[str, Promise]:
    return {promise.name: promise for promise in promises}


def test_the_machine_is_told() -> None:
    told = by_name(machine.promises(CPU))
    assert "cores" in told["machine"].told
    assert told["device"].told == "cpu"
    assert not [promise for promise in told.values() if promise.holds is False]


def test_a_known_peak_is_told_to_the_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    assert by_name(memory.promises(CPU))["known peak"].holds
    monkeypatch.setattr(memory, "peaks_of", lambda *_, **__: {"peak_bytes": 2 * memory.KNOWN + 1})
    assert by_name(memory.promises(CPU))["known peak"].holds is False


@pytest.mark.parametrize("attention", TRIALS)
def test_operators_agree_and_a_wrong_one_does_not(attention: str) -> None:
    (trial, *_) = TRIALS[attention].values()
    known = operators._known(attention, trial)
    for dtype in operators.LIMITS:
        assert operators._agreement([known], CPU, dtype).startswith("within ")
    with torch.no_grad():
        for parameter in known.module.parameters():
            parameter.mul_(1.5)
    for dtype in operators.LIMITS:
        with pytest.raises(Broken, match="from the reference"):
            operators._agreement([known], CPU, dtype)


def test_an_implementation_runs_or_is_not_applicable() -> None:
    assert operators._implementation(CPU, "production").startswith("within ")
    with pytest.raises(NotPromised, match="NATTEN is not installed"):
        operators._implementation(CPU, "natten")


def test_lengths_are_held_to_what_they_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = iter([0.02, *[0.013] * 100])
    monkeypatch.setattr(timing, "seconds_of", lambda *_: next(waits))
    with pytest.raises(Broken, match=r"a wait of 10 ms takes 1\.300 times 10 ms"):
        timing._known_length(CPU)
    assert timing._within(2.04, 2.0, "{} times") == "2.040 times"
    with pytest.raises(Broken, match=r"2.2.* where 2 is right to 5 %"):
        timing._within(2.2, 2.0, "{} times")
    with pytest.raises(Broken):
        timing._within(float("nan"), 2.0, "{} times")


def test_the_cold_cache_is_of_a_gpu() -> None:
    with pytest.raises(NotPromised):
        timing._cold(CPU)


def test_a_part_whose_process_ends_is_a_fail_and_the_next_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PARTS", {"operators": 0.001, "memory": 60})
    found = dict(doctor.examined("cpu"))
    assert [promise.holds for promise in found["operators"]] == [False]
    assert "no answer within 0.001 seconds" in found["operators"][0].told
    assert found["memory"][0].holds


def test_a_device_that_is_not_here_is_a_mistake() -> None:
    with pytest.raises(UserError, match="device=xpu:7: is not here; there is cpu"):
        list(doctor.examined("xpu:7"))


def test_a_fail_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Promise(name="known peak", holds=False, told="a byte too much")
    monkeypatch.setattr(doctor, "examined", lambda device: iter([("memory", [broken])]))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "FAIL  known peak                     a byte too much" in result.output
    assert "1 failed: numbers of this machine are not to be trusted yet" in result.output


@pytest.mark.skipif(not os.environ.get("ACMIX_BENCH_FULL"), reason="wants an idle machine and a minute: nox -s full")
def test_doctor_passes_here() -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
