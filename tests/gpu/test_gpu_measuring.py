"""On a real GPU: seconds, caches, graphs, arithmetic and memory are as they are known to be; what is right passes."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from time import perf_counter
from typing import Any

import pytest
import torch
from cells import QUICK, cell_of

from acmix_bench.meters import as_timed, clock, gpu, graph, latency, numerics, steps, warm
from acmix_bench.meters.subject import Subject
from acmix_bench.ops import convolution
from acmix_bench.runs import process

pytestmark = [
    pytest.mark.skipif(
        not torch.cuda.is_available() and os.environ.get("ACMIX_BENCH_GPU") != "1", reason="torch sees no GPU here"
    ),
    pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores"),  # a hint of torch.compile, in ieee
]
DEVICE = torch.device("cuda")
HAS_NVML = importlib.util.find_spec("pynvml") is not None
IEEE: dict[str, Any] = {"device": "cuda", "products": "ieee", "cudnn_benchmark": False}


@pytest.fixture(autouse=True)
def _arithmetic() -> Iterator[None]:
    numerics.hold(IEEE)
    yield
    numerics.hold(IEEE)


def subject(variant: str, dtype: str = "float32", backbone: str = "nano", size: int = 16, **more: Any) -> Subject:
    cell = cell_of(variant, "inference", backbone, size, QUICK.model_copy(update={"device": "cuda"}))
    return replace(Subject.of(cell), protocol=cell.protocol | IEEE | {"dtype": dtype} | more)


def timed(step: Callable[[], None], calls: int, *, cold: bool = False) -> float:
    """Seconds of a call, the least of several samples."""
    return min(clock.sample_of(step, calls, DEVICE, perf_counter, cold=cold).seconds for _ in range(7)) / calls


def test_a_kernel_of_known_length_takes_as_long() -> None:
    """Twice as many cycles take twice as long, and as long as the clock says."""
    cycles = 20_000_000
    warm.until_clock_settles([lambda: torch.cuda._sleep(cycles)], DEVICE, perf_counter)
    once, twice = timed(lambda: torch.cuda._sleep(cycles), 3), timed(lambda: torch.cuda._sleep(2 * cycles), 3)
    assert twice / once == pytest.approx(2, rel=0.02)
    if mhz := gpu.state(DEVICE).get("clock_mhz"):
        assert once == pytest.approx(cycles / (mhz * 1e6), rel=0.1), "the clock moves by some percent"


def test_the_hosts_share_tells_who_waits_for_whom() -> None:
    x = torch.zeros(16, device=DEVICE)
    asleep = clock.sample_of(lambda: torch.cuda._sleep(20_000_000), 5, DEVICE, perf_counter)
    launched = clock.sample_of(lambda: [x.add_(1) for _ in range(200)] and None, 20, DEVICE, perf_counter)
    assert asleep.host_seconds is not None
    assert launched.host_seconds is not None
    assert asleep.host_seconds < 0.1 * asleep.seconds
    assert launched.host_seconds > 0.9 * launched.seconds


def test_a_cold_cache_is_not_faster_than_a_warm_one() -> None:
    """Adding up what lies within the L2 cache: from it, and from memory.

    Many calls in a row, so that the launch of the first, which a cold one hides behind the writing of the cache, is
    nothing beside them.
    """
    cache = torch.cuda.get_device_properties(DEVICE).L2_cache_size
    x = torch.ones(cache // 4 // 4, device=DEVICE)
    out = torch.empty_like(x)

    def step() -> None:
        torch.add(x, 1, out=out)

    step()
    warm_seconds, cold_seconds = timed(step, 50), timed(step, 50, cold=True)
    assert clock.larger_than_cache(DEVICE).nbytes > cache
    assert cold_seconds > warm_seconds


@pytest.mark.parametrize(("products", "least", "most"), [("ieee", 0.0, 5e-6), ("tf32", 1e-4, 5e-3)])
def test_products_and_convolutions_are_as_exact_as_is_set(products: str, least: float, most: float) -> None:
    if products == "tf32" and torch.cuda.get_device_capability(DEVICE) < (8, 0):
        pytest.skip("this GPU has no TF32")
    numerics.hold(IEEE | {"products": products})
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    x, kernel = torch.randn(8, 256, 32, 32), torch.randn(256, 256, 3, 3)
    found = {
        "product": (a.to(DEVICE) @ b.to(DEVICE), a.double() @ b.double()),
        "convolution": (
            torch.conv2d(x.to(DEVICE), kernel.to(DEVICE), padding=1),
            torch.conv2d(x.double(), kernel.double(), padding=1),
        ),
    }
    errors = {name: ((ours.cpu() - true).norm() / true.norm()).item() for name, (ours, true) in found.items()}
    assert all(least <= error <= most for error in errors.values()), errors


@pytest.mark.parametrize("make", [steps.inference, steps.training])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_graph_is_captured_and_not_slower_where_the_host_is_the_limit(make: Any, dtype: str) -> None:
    step, release = make(subject("acmix", dtype), 1)
    for _ in range(3):
        step()
    eager = timed(step, 20)
    assert timed(graph.captured(step, release, DEVICE), 20) < 1.02 * eager


def test_a_graph_gives_what_the_step_gives() -> None:
    one = subject("acmix")
    model, images, found = one.build().eval(), one.images(4), dict[str, torch.Tensor]()

    def step() -> None:
        with torch.no_grad():
            found["out"] = model(images)

    step()
    eager = found["out"].clone()
    replay = graph.captured(step, lambda: None, DEVICE)
    images.copy_(images.flip(0))
    replay()
    torch.cuda.synchronize(DEVICE)
    torch.testing.assert_close(found["out"], eager.flip(0), rtol=1e-4, atol=1e-4)


def test_a_graph_keeps_what_its_step_works_on() -> None:
    """Its memory would be given to others else."""
    found = dict[str, torch.Tensor]()

    def made() -> Callable[[], None]:
        x = torch.full((1 << 20,), 3.0, device=DEVICE)

        def step() -> None:
            found["out"] = x + 1

        return graph.captured(step, lambda: None, DEVICE)

    replay = made()
    others = [torch.zeros(1 << 20, device=DEVICE) for _ in range(64)]
    replay()
    assert found["out"].eq(4).all()
    assert not sum(other.sum() for other in others)


def _capture_what_waits(_: None) -> str:
    x = torch.ones(4, device=DEVICE)
    try:
        graph.captured(lambda: print(x.sum().item(), end=""), lambda: None, DEVICE)
    except graph.CannotCapture as error:
        return str(error)
    return ""


def test_a_step_that_waits_cannot_be_captured_and_says_so() -> None:
    """In a process of its own: torch goes on as if random numbers were captured."""
    answer = process.answer_of(_capture_what_waits, None, process.Limits(seconds=60))
    assert answer.status == "ok", answer
    assert answer.content.startswith("launch=graph: the step cannot be captured as a CUDA graph: ")


@pytest.mark.parametrize("make", [steps.inference, steps.training])
def test_steps_in_bfloat16_take_nothing_new_from_the_driver(make: Any) -> None:
    step, _ = make(subject("acmix", "bfloat16"), 8)

    def taken() -> tuple[int, int, int]:
        """Calls of the allocator in a step, what is held after it, and segments that were taken from the driver."""
        before = torch.cuda.memory_stats(DEVICE)["allocation.all.allocated"]
        step()
        told = torch.cuda.memory_stats(DEVICE)
        held, segments = torch.cuda.memory_allocated(DEVICE), told["segment.all.allocated"]
        return told["allocation.all.allocated"] - before, held, segments

    first, *others = [taken() for _ in range(6)]
    assert len(set(others[1:])) == 1, others
    if make is steps.inference:
        assert others[-1][0] < first[0], "each weight is lowered once"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    "variant", ["acmix", "shift=tensor", *(f"implementation={name}" for name in ("production", "reference", "fused"))]
)
def test_what_is_right_passes_as_it_is_timed(variant: str, dtype: str) -> None:
    for backbone, size in (("nano", 16), ("operator-64", 28)):
        for layout in ("contiguous", "channels-last"):
            checks = as_timed.measure(subject(variant, dtype, backbone, size, layout=layout))["checks"]
            wrong = {name: each for name, each in checks.items() if each["difference"] > each["tolerance"]}
            assert not wrong


@pytest.mark.parametrize(("backbone", "size"), [("resnet50", 128), ("swin-t", 112), ("pvt-t", 64), ("san10", 128)])
def test_families_pass_as_they_are_timed(backbone: str, size: int) -> None:
    checks = as_timed.measure(subject("acmix", "bfloat16", backbone, size))["checks"]
    assert not {name: each for name, each in checks.items() if each["difference"] > each["tolerance"]}


@pytest.mark.parametrize("variant", ["implementation=compiled", "implementation=fused-compiled"])
def test_what_is_compiled_passes_as_it_is_timed(variant: str) -> None:
    numerics.hold(IEEE | {"products": "tf32"})  # for which torch.compile reads torch's old names
    checks = as_timed.measure(subject(variant, "float32", "operator-64", 14, products="tf32"))["checks"]
    assert not {name: each for name, each in checks.items() if each["difference"] > each["tolerance"]}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_what_is_broken_on_the_gpu_does_not_pass(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = convolution.shift_and_sum
    monkeypatch.setattr(
        convolution,
        "shift_and_sum",
        lambda maps, **sizes: honest(maps.flip(-1) if maps.is_cuda else maps, **sizes),
    )
    checks = as_timed.measure(subject("shift=tensor", dtype))["checks"]
    assert checks["output"]["difference"] > checks["output"]["tolerance"]


@pytest.mark.parametrize("more", [{}, {"cache": "cold"}, {"launch": "graph"}, {"dtype": "bfloat16"}], ids=str)
@pytest.mark.parametrize("make", [steps.inference, steps.training])
def test_timings_say_all_that_there_is_to_say(make: Any, more: dict[str, Any]) -> None:
    subjects = [subject(variant, seconds=0.2, batch=8, **more) for variant in ("acmix", "conv3x3")]
    for values in latency.alternate(subjects, make):
        assert isinstance(values, dict), values
        assert 0 < min(values["seconds"]) <= max(values["seconds"]) < 1
        assert len(values["host_seconds"]) == len(values["seconds"]) >= latency.MIN_BLOCKS
        assert values["peak_bytes"] > 0
        assert values["reserved_bytes"] >= 0
        if HAS_NVML:
            assert values["clock_settled"] in (True, False)
            assert len(values["gpu_states"]) == len(values["seconds"])
            assert {"clock_mhz", "temperature_c", "power_w", "throttled"} <= set(values["gpu_states"][0])


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU here")
def test_a_gpu_that_is_not_the_current_one_is_timed() -> None:
    other, cycles = torch.device("cuda", 1), 20_000_000
    with torch.cuda.device(1):
        step = lambda: torch.cuda._sleep(cycles)  # noqa: E731
        assert clock.sample_of(step, 2, other, perf_counter).seconds > 0.005
    x = torch.randn(2048, 2048, device=other)
    assert clock.sample_of(lambda: x @ x and None, 2, other, perf_counter).seconds > 0
