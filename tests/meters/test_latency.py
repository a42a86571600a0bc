"""Alternating timing: order, when it stops, the second copy, failures and memory that runs out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cells import QUICK, cell_of
from torch.utils.flop_counter import FlopCounterMode

from acmix_bench.meters import latency, matmul
from acmix_bench.meters.latency import alternate
from acmix_bench.meters.macs import total_macs
from acmix_bench.meters.subject import Subject
from acmix_bench.meters.turns import Turns


class Time:
    """A clock that only steps move."""

    def __init__(self) -> None:
        self.now, self.log = 0.0, []

    def __call__(self) -> float:
        return self.now

    def prepare(self, seconds: Callable[[Subject], float]) -> latency.Prepare:
        number = itertools.count()

        def prepare(subject: Subject, batch: int):
            mine = next(number)

            def step() -> None:
                self.log.append(mine)
                self.now += seconds(subject)

            return step, lambda: None

        return prepare


def subjects(*variants: str, **protocol: object) -> list[Subject]:
    changed = QUICK.model_copy(update=protocol)
    return [Subject.of(cell_of(variant, "inference", protocol=changed)) for variant in variants]


def test_every_block_times_each_once_in_an_order_of_its_own() -> None:
    time = Time()
    first, second = alternate(subjects("acmix", "conv3x3", seconds=10.0), time.prepare(lambda _: 0.1), time)
    assert len(first["seconds"]) == len(second["seconds"]) == len(first["again_seconds"])
    assert "again_seconds" not in second
    blocks_start = len(time.log) - 6 * len(first["seconds"])
    sampled = time.log[blocks_start::2]  # every step is timed after one that is not
    blocks = [tuple(sampled[at : at + 3]) for at in range(0, len(sampled), 3)]
    assert all(sorted(block) == [0, 1, 2] for block in blocks)
    assert len(set(blocks)) > 2


def test_it_stops_when_the_ratio_is_known_or_the_time_is_up() -> None:
    time = Time()
    narrow, _ = alternate(subjects("acmix", "conv3x3", seconds=100.0), time.prepare(lambda _: 0.1), time)
    assert (narrow["stopped"], len(narrow["seconds"])) == ("narrow", latency.BLOCKS_TO_STOP)
    noisy = itertools.cycle([0.1, 0.13, 0.07, 0.1, 0.16])
    time = Time()
    wide, _ = alternate(subjects("acmix", "conv3x3", seconds=20.0), time.prepare(lambda _: next(noisy)), time)
    assert wide["stopped"] == "budget"
    assert 2 * 3 * len(wide["seconds"]) * 0.11 == pytest.approx(60, rel=0.2)


def test_two_processes_warm_up_and_time_one_after_the_other(tmp_path: Path) -> None:
    log: list[str] = []

    def side(name: str, first: bool, seconds: float) -> list[latency.Values | Exception]:
        time = Time()

        def prepare(subject: Subject, batch: int):
            def step() -> None:
                log.append(name)
                time.now += 0.1

            return step, lambda: None

        turns = Turns(path=tmp_path / "turns", first=first)
        return alternate(subjects("acmix", seconds=seconds), prepare, time, turns)

    with ThreadPoolExecutor(2) as pool:
        ends = pool.submit(side, "base", True, 1.0), pool.submit(side, "head", False, 10.0)
        (base,), (head,) = (end.result(timeout=30) for end in ends)
    runs = [(name, len(list(steps))) for name, steps in itertools.groupby(log)]
    assert [name for name, _ in runs] == ["base", "head"] * (len(runs) // 2)
    assert runs[0][1] == runs[1][1] > 3, "the warm-up and the step that is watched for memory"
    assert all(steps == 2 for _, steps in runs[2:])
    assert base["stopped"] == "budget"
    assert head["stopped"] == "other"
    assert len(base["seconds"]) == len(head["seconds"]) == (len(runs) - 2) // 2


def test_a_warm_up_that_never_settles_is_said() -> None:
    time = Time()
    (steady,) = alternate(subjects("acmix", seconds=10.0), time.prepare(lambda _: 0.1), time)
    assert steady["warmed_up"]
    jumping = itertools.cycle([0.1, 0.2])
    time = Time()
    (restless,) = alternate(subjects("acmix", seconds=10.0), time.prepare(lambda _: next(jumping)), time)
    assert not restless["warmed_up"]


def test_the_first_step_may_take_longer_than_the_warm_up() -> None:
    """As it does where it compiles."""
    first = itertools.chain([100.0], itertools.repeat(0.1))
    time = Time()
    (values,) = alternate(subjects("acmix", seconds=1.0), time.prepare(lambda _: next(first)), time)
    assert values["first_seconds"] == 100
    assert values["warmed_up"]


def test_fast_steps_are_sampled_several_at_a_time() -> None:
    time = Time()
    (values,) = alternate(subjects("acmix", seconds=1.0), time.prepare(lambda _: 0.001), time)
    assert values["calls"] == 5
    assert values["seconds"][0] == pytest.approx(0.001)


def test_one_that_fails_leaves_the_others() -> None:
    time = Time()

    def seconds(subject: Subject) -> float:
        if subject.variant.operator == "conv":
            raise ValueError("no")
        return 0.1

    first, second, third = alternate(subjects("acmix", "conv3x3", "mix=fixed"), time.prepare(seconds), time)
    assert isinstance(second, ValueError)
    assert len(first["seconds"]) == len(third["seconds"]) >= 3


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_the_batch_of_all_is_halved_until_it_fits(error: Exception) -> None:
    time = Time()
    inner = time.prepare(lambda _: 0.1)

    def prepare(subject: Subject, batch: int):
        if batch > 2 and subject.variant.operator == "conv":
            raise error
        return inner(subject, batch)

    results = alternate(subjects("acmix", "conv3x3", batch=8), prepare, time)
    assert [values["batch"] for values in results] == [2, 2]


def test_a_matrix_product_has_the_subjects_multiply_adds() -> None:
    (subject,) = subjects("acmix", batch=4)
    step, _ = matmul.matmul(subject, 4)
    with FlopCounterMode(display=False) as counter:
        step()
    assert counter.get_total_flops() / 2 == pytest.approx(4 * total_macs(subject), rel=0.01)


def test_a_step_of_mine_need_free_nothing() -> None:
    time = Time()

    def prepare(subject: Subject, batch: int):
        return lambda: setattr(time, "now", time.now + 0.1)

    (values,) = alternate(subjects("acmix", seconds=1.0), prepare, time)
    assert values["seconds"][0] == pytest.approx(0.1)
