"""Scores: what a checkpoint may change of them, which is nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from cells import cell_of
from full import full

from acmix_bench.meters import accuracy
from acmix_bench.meters.subject import Subject
from acmix_bench.train.checkpoint import LAST

CELL = cell_of("operator=conv", "accuracy")


@full
def test_a_checkpoint_is_a_help_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(accuracy, "SECONDS_BETWEEN_SAVES", 0)
    subject = Subject.of(CELL, tmp_path / "key")
    undisturbed = accuracy.measure(subject)
    file = tmp_path / "key" / LAST

    def again() -> str:
        assert accuracy.measure(subject) == undisturbed
        return capfd.readouterr().out

    assert again() == "was finished\n"
    monkeypatch.setattr(accuracy.platform, "python_version", lambda: "3.0")
    assert again().startswith(f"starts anew: {file}: is of another training: software is 'Python 3.0, torch")
    file.write_bytes(b"broken")
    assert again().startswith(f"starts anew: {file}: is no checkpoint")
    file.unlink()
    file.mkdir()
    told = again().splitlines()
    assert told[0].startswith(f"starts anew: {file}: ")
    assert told[1].startswith(f"goes on without a checkpoint: {file}: cannot be written")
