"""What a table tells of timings on a GPU beside its numbers."""

from __future__ import annotations

from acmix_bench.analysis.compare import Comparison
from acmix_bench.errors import a_few
from acmix_bench.report import rounding
from acmix_bench.spec.meter import short

HOST_BOUND = 0.9  # share of a step's time in which the host hands it out, from which on the GPU waits for it
MOVES = 1.02  # highest clock over the lowest


def setting_of(comparison: Comparison) -> str:
    """The device and its arithmetic, cache and launches, behind a comma; nothing on the CPU."""
    run = comparison.run
    protocol, records = run.plan.experiment.protocol, run.records
    if protocol.device_type == "cpu":
        return ""
    is_set = not records or any("products" in record.cell.protocol for record in records)
    told = [protocol.device, f"{protocol.products} products" if is_set else "products as torch comes"]
    told += ["cuDNN's search of algorithms"] * protocol.cudnn_benchmark
    told += ["cold L2 cache"] * (protocol.cache == "cold") + ["CUDA graphs"] * (protocol.launch == "graph")
    return f", {', '.join(told)}"


def gpu_notes(comparison: Comparison) -> list[str]:
    """What of the timings the GPU itself did not decide, and how it was while they were taken; nothing of a CPU."""
    timings = [
        (f"{line.row.label} in {short(meter)}", timing.gpu)
        for meter in comparison.speed_meters
        for line in comparison.lines
        if (timing := line.timings.get(meter)) and timing.gpu
    ]
    notes = []
    if bound := [where for where, gpu in timings if gpu.host_share >= HOST_BOUND]:
        notes.append(
            f"The GPU waited for the host (which took {HOST_BOUND:.0%} of a step or more to hand it out): "
            f"{a_few(bound)}; launch=graph times the GPU alone."
        )
    seen, throttled = sum(gpu.blocks for _, gpu in timings), sum(gpu.throttled for _, gpu in timings)
    if throttled:
        left_out = sum(gpu.left_out for _, gpu in timings)
        kept = f"; {throttled - left_out} of them count, for want of others" if left_out < throttled else ""
        blocks = rounding.several(seen, "sample", "samples")
        notes.append(f"Throttled: {throttled} of {blocks}, of which {left_out} were left out{kept}.")
    if clocks := [gpu.clock_mhz for _, gpu in timings if gpu.clock_mhz]:
        low, high = min(low for low, _ in clocks), max(high for _, high in clocks)
        notes.append(
            f"The GPU's clock was {high:.0f} MHz."
            if high <= MOVES * low
            else f"The GPU's clock moved between {low:.0f} and {high:.0f} MHz; nvidia-smi --lock-gpu-clocks holds it."
        )
    if any(gpu.unsettled for _, gpu in timings):
        unsettled, processes = (max(getattr(gpu, what) for _, gpu in timings) for what in ("unsettled", "processes"))
        notes.append(f"In {unsettled} of {processes} processes the clock had not settled after five seconds.")
    return notes


def as_timed_note(comparison: Comparison) -> list[str]:
    """How far the rows that are shown are from float64 as they are timed; nothing where that was not checked."""
    outputs = [
        check["difference"]
        for line in comparison.lines
        if not line.withheld
        for name, check in (line.count("as_timed", "checks") or {}).items()
        if name.endswith("output")
    ]
    if not outputs:
        return []
    protocol = comparison.run.plan.experiment.protocol
    return [
        f"Checked as timed: in {protocol.dtype} on {protocol.device}, outputs and gradients are within tolerance of "
        f"float64 on the CPU (outputs differ by {max(outputs):.0e} of their norm at most)."
    ]
