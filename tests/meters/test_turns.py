"""The token that two timing processes hand to and fro."""

from __future__ import annotations

import socket
import threading
import time
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


def test_a_thread_that_waits_is_not_running() -> None:
    ended = threading.Event()
    waiting = threading.Thread(target=ended.wait)
    waiting.start()
    while turns._is_running(Path(f"/proc/self/task/{waiting.native_id}")):
        time.sleep(0.001)
    assert turns._is_running(Path(f"/proc/self/task/{threading.get_native_id()}"))
    ended.set()
    waiting.join()


def test_the_token_is_kept_until_the_other_threads_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, left = threading.Event(), [True, True, False]
    waiting = threading.Thread(target=ended.wait)
    waiting.start()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)

        def is_running(task: Path) -> bool:
            with pytest.raises(BlockingIOError):
                theirs.recv(1)
            return left.pop(0) if left else False

        monkeypatch.setattr(turns, "_is_running", is_running)
        assert Token(ours, held=True).give()
        assert not left
        assert theirs.recv(1) == b"."
    ended.set()
    waiting.join()


def test_after_its_end_nothing_is_taken_or_given() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    token = Token(ours, held=False)
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
