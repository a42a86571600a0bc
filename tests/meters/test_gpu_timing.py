"""Timings on a GPU, without one: events, streams, what is waited for, warm-up, throttling, cold caches and graphs."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from cells import QUICK, cell_of
from fake_cuda import FakeCuda

from acmix_bench.meters import clock, gpu, graph, latency, memory, warm
from acmix_bench.meters.subject import Subject

SECOND = torch.device("cuda", 1)  # the first is the current one
COOL: dict[str, Any] = {"clock_mhz": 1980, "temperature_c": 50, "power_w": 300.0, "throttled": []}
HOT = COOL | {"clock_mhz": 900, "throttled": ["hot"]}


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    monkeypatch.setattr(Subject, "device", SECOND)
    monkeypatch.setattr(gpu, "state", lambda device: COOL)
    return FakeCuda().put_in_place(monkeypatch)


def timed(
    cuda: FakeCuda, *variants: str, make: Callable[[Subject], Callable[[], None]], **protocol: Any
) -> list[latency.Values | Exception]:
    changed = QUICK.model_copy(update={"device": "cuda:1", "seconds": 1.0, "products": "ieee"} | protocol)
    subjects = [Subject.of(cell_of(variant, "inference", protocol=changed)) for variant in variants]
    return latency.alternate(subjects, lambda subject, batch: make(subject), cuda.clock)


def test_the_gpus_seconds_are_taken_and_the_hosts_beside_them(cuda: FakeCuda) -> None:
    cuda.launch(5.0)  # what was handed on before is not ours
    sample = clock.sample_of(lambda: cuda.launch(0.010, host=0.001), 3, SECOND, cuda.clock)
    assert sample.seconds == pytest.approx(0.030)
    assert sample.host_seconds == pytest.approx(0.003, rel=1e-3)


def test_where_the_gpu_waits_for_the_host_the_two_are_equal(cuda: FakeCuda) -> None:
    sample = clock.sample_of(lambda: cuda.launch(0.001, host=0.010), 20, SECOND, cuda.clock)
    assert sample.host_seconds == pytest.approx(sample.seconds, rel=0.02)


def test_events_and_waiting_are_of_the_measured_device(cuda: FakeCuda) -> None:
    clock.sample_of(lambda: cuda.launch(0.1), 1, SECOND, cuda.clock)
    assert cuda.log == [("record", 1), ("record", 1), ("synchronize", 1)]
    assert cuda.current == 0


def test_a_cold_cache_is_overwritten_before_each_step_and_outside_of_its_events(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Buffer:
        def zero_(self) -> None:
            cuda.log.append(("overwrite", 1))
            cuda.launch(1.0)

    monkeypatch.setattr(clock, "larger_than_cache", lambda device: Buffer())
    sample = clock.sample_of(lambda: cuda.launch(0.01), 2, SECOND, cuda.clock, cold=True)
    assert sample.seconds == pytest.approx(0.02)
    assert cuda.log == [("overwrite", 1), ("record", 1), ("record", 1)] * 2 + [("synchronize", 1)]


def test_what_is_overwritten_is_larger_than_the_cache(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(torch, "empty", lambda size, **how: made.append({"size": size} | how))
    clock.larger_than_cache.__wrapped__(SECOND)
    assert made == [{"size": 2000, "dtype": torch.uint8, "device": SECOND}]


def test_any_other_accelerator_is_waited_for_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[Any] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: log.append(device.type))
    ticks = itertools.count()
    sample = clock.sample_of(lambda: log.append("step"), 2, torch.device("mps"), lambda: float(next(ticks)))
    assert log == ["mps", "step", "step", "mps"]
    assert sample == (2.0, 1.0), "the clock stands at 0 before, 1 when all is handed on, 2 when it is done"


def test_on_the_cpu_nothing_is_handed_on() -> None:
    ticks = itertools.count()
    sample = clock.sample_of(lambda: None, 3, torch.device("cpu"), lambda: float(next(ticks)))
    assert sample == (1.0, None)


@pytest.mark.parametrize(
    ("clocks", "least", "most", "settled"),
    [
        (itertools.repeat(1980), 1.0, 1.5, True),
        (itertools.chain(range(300, 1800, 150), itertools.repeat(1800)), 2.2, 3.0, True),  # a ramp of 2 seconds
        (itertools.cycle([900, 1980]), 5.0, 5.5, False),
        (itertools.repeat(None), 1.0, 1.5, None),
    ],
)
def test_a_gpu_is_warmed_up_for_a_second_at_least_and_until_its_clock_stays(
    cuda: FakeCuda,
    monkeypatch: pytest.MonkeyPatch,
    clocks: Iterator[int | None],
    least: float,
    most: float,
    settled: bool | None,
) -> None:
    monkeypatch.setattr(gpu, "state", lambda device: {"clock_mhz": next(clocks)})
    assert warm.until_clock_settles([lambda: cuda.launch(0.01)] * 2, SECOND, cuda.clock) is settled
    assert least <= cuda.now <= most


def test_the_warm_up_comes_before_the_first_sample(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[float] = []
    honest = latency.sample_of
    monkeypatch.setattr(latency, "sample_of", lambda *a, **k: begun.append(cuda.now) or honest(*a, **k))
    (values,) = timed(cuda, "acmix", make=lambda _: lambda: cuda.launch(0.01))
    assert begun[0] > 1.0
    assert values["clock_settled"] is True
    assert values["seconds"] == pytest.approx([0.01] * len(values["seconds"]))
    assert len(values["host_seconds"]) == len(values["gpu_states"]) == len(values["seconds"])


def test_throttled_blocks_are_left_out_of_all_rows_and_counted(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every third block is throttled, and takes three times as long."""
    is_hot = lambda: cuda.log.count(("block",)) % 3 == 2  # noqa: E731

    def state(device: torch.device) -> dict[str, Any]:
        said = HOT if is_hot() else COOL
        cuda.log.append(("block",))
        return said

    monkeypatch.setattr(gpu, "state", state)
    monkeypatch.setattr(warm, "until_clock_settles", lambda *_: True)
    step = lambda: cuda.launch(0.03 if is_hot() else 0.01)  # noqa: E731
    first, second = timed(cuda, "acmix", "conv3x3", make=lambda _: step, precision=1e-9)
    total = cuda.log.count(("block",))
    assert first["throttled_blocks"] == first["left_out_blocks"] == total // 3 > 2
    for seconds in (first["seconds"], first["again_seconds"], second["seconds"]):
        assert seconds == pytest.approx([0.01] * (total - total // 3))
    assert all(not one["throttled"] for one in first["gpu_states"])


def test_where_all_is_throttled_all_of_it_counts_and_that_is_said(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "state", lambda device: HOT)
    (values,) = timed(cuda, "acmix", make=lambda _: lambda: cuda.launch(0.01), precision=1e-9)
    assert len(values["seconds"]) == values["throttled_blocks"] >= latency.MIN_BLOCKS
    assert values["left_out_blocks"] == 0


def test_what_a_gpu_does_not_say_is_not_there(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "state", lambda device: {})
    (values,) = timed(cuda, "acmix", make=lambda _: lambda: cuda.launch(0.01))
    assert not {"gpu_states", "throttled_blocks", "clock_settled"} & set(values)
    assert values["seconds"]


def test_a_graph_is_captured_after_warm_up_on_a_side_stream_and_its_replay_is_timed(cuda: FakeCuda) -> None:
    log = cuda.log

    def prepare(_: Subject) -> Any:
        def step() -> None:
            log.append("captured" if cuda.capturing else "step")
            cuda.launch(0.002, host=0.01)

        return step, lambda: log.append("release")

    (eager,) = timed(cuda, "acmix", make=prepare)
    log.clear()
    (replayed,) = timed(cuda, "acmix", make=prepare, launch="graph")
    at = log.index(("capture", 1))
    warm_up = [entry for entry in log[:at] if entry == "step"]
    assert len(warm_up) > graph.WARM_UP
    assert ("on stream", 1) in log[:at]
    assert log[at - 1] == "release", "gradients are to be the graph's own"
    assert log[at + 1 :].count("captured") == 1
    assert "step" not in log[at:]
    assert eager["seconds"][0] == pytest.approx(0.01, rel=0.01), "the host's"
    assert replayed["seconds"][0] == pytest.approx(0.002, rel=0.01), "the GPU's"


def test_a_replay_keeps_what_its_step_works_on(cuda: FakeCuda) -> None:
    """Its memory would be given to others else."""

    def made() -> tuple[Callable[[], None], weakref.ref[torch.Tensor]]:
        x = torch.zeros(4)

        def step() -> None:
            x.add_(1)

        return graph.captured(step, lambda: None, SECOND), weakref.ref(x)

    replay, x = made()
    gc.collect()
    assert x() is not None
    del replay
    gc.collect()
    assert x() is None


def test_a_step_that_cannot_be_captured_says_so_and_each_row_is_tried_alone(cuda: FakeCuda) -> None:
    """For torch is left as if it still captured."""

    def make(subject: Subject) -> Callable[[], None]:
        def step() -> None:
            cuda.launch(0.01)
            if subject.variant.operator == "conv":
                cuda.wait()

        return step

    with pytest.raises(graph.CannotCapture) as error:
        timed(cuda, "acmix", "conv3x3", make=make, launch="graph")
    assert str(error.value) == (
        "launch=graph: the step cannot be captured as a CUDA graph: "
        "CUDA error: operation not permitted when stream is capturing"
    )
    (alone,) = timed(cuda, "acmix", make=make, launch="graph")
    assert alone["seconds"]


def test_peaks_are_those_of_one_step_allocated_and_reserved(cuda: FakeCuda) -> None:
    cuda.allocated, cuda.reserved, cuda.peak, cuda.peak_reserved = 100, 200, 10_000, 20_000

    def step() -> None:
        cuda.log.append("step")
        cuda.peak, cuda.peak_reserved = 150, 264

    peaks = memory.peaks_of(step, lambda: cuda.log.append("release"), SECOND, compiles=False)
    assert peaks == {"peak_bytes": 50, "reserved_bytes": 64}
    assert cuda.log == ["release", ("synchronize", 1), ("empty_cache", 0), ("reset_peak", 1), "step"]
