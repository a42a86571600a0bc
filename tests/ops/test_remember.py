"""What is kept of tensors that follow from sizes: a bounded number of bytes, however many sizes are asked for."""

from __future__ import annotations

import torch

from acmix_bench.ops import attention, remember
from acmix_bench.ops.remember import Tensors


def test_the_one_that_was_not_asked_for_the_longest_is_dropped() -> None:
    kept, made = Tensors(limit=100), []

    def of(key: str, bytes: int = 40) -> torch.Tensor:
        def make() -> torch.Tensor:
            made.append(key)
            return torch.zeros(bytes, dtype=torch.uint8)

        return kept.get(key, make)

    assert of("a") is of("a")
    of("b")
    of("a")
    of("c")
    assert (made, kept.bytes) == (["a", "b", "c"], 80)
    of("a")
    of("b")
    assert made == ["a", "b", "c", "b"]
    of("large", 101)
    assert kept.bytes <= 100


def test_hundreds_of_sizes_stay_within_the_bound(monkeypatch) -> None:
    monkeypatch.setattr(remember.KEPT, "limit", 1 << 20)
    for width in range(20, 320):
        index = attention._tile_pixels(1, 30, width, 4, 7, 1, torch.device("cpu"))
        assert index is attention._tile_pixels(1, 30, width, 4, 7, 1, torch.device("cpu"))
        assert remember.KEPT.bytes <= 1 << 20
