"""The token that two timing processes hand to and fro."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from acmix_bench.meters import turns
from acmix_bench.meters.turns import Token, Turns


def test_two_run_in_turns_until_one_ends(tmp_path: Path) -> None:
    log: list[str] = []

    def side(name: str, first: bool, blocks: int) -> bool:
        token = Turns(path=tmp_path / "turns", first=first).join()
        for _ in range(blocks):
            if not token.take():
                return False
            log.append(name)
            if not token.give():
                return False
        token.end()
        return True

    with ThreadPoolExecutor(2) as pool:
        base, head = pool.submit(side, "base", True, 100), pool.submit(side, "head", False, 5)
        assert head.result(timeout=30)
        assert not base.result(timeout=30), "the side that would go on is told"
    assert log[:10] == ["base", "head"] * 5
    assert len(log) <= 11
    assert not (tmp_path / "turns").exists(), "the next pair can meet at the same place"


def test_after_its_end_nothing_is_taken_or_given() -> None:
    ours, theirs = socket.socketpair()
    token = Token(ours, held=False)
    theirs.close()
    assert not token.take()
    assert not token.take()
    assert not token.give()


@pytest.mark.parametrize("first", [True, False])
def test_one_that_is_left_alone_does_not_wait_for_ever(
    first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "PATIENCE", 0.05)
    with pytest.raises(TimeoutError, match="did not come"):
        Turns(path=tmp_path / "turns", first=first).join()
