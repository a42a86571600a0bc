"""Can the numbers of this machine and device be trusted? Every line is a pass, a fail with its fix, or not applicable.

Each part runs in a process of its own: a device that is lost in one of them is there again for the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib import import_module

from acmix_bench.errors import UserError
from acmix_bench.runs import process
from acmix_bench.runs.contract import Promise

# What is looked at, and after how many seconds it is given up.
PARTS = {"machine": 60, "operators": 300, "timing": 120, "memory": 60}


def examined(device: str) -> Iterator[tuple[str, list[Promise]]]:
    """Look at one part after the other; each with what came out, as it comes.

    Raises:
        UserError: where there is no such device.
    """
    for part, seconds in PARTS.items():
        answer = process.answer_of(partial(_examined, part), device, process.Limits(seconds=seconds))
        if answer.status == "user":
            raise UserError(answer.content)
        found = answer.content
        if answer.status != "ok":  # else what libraries say by the way is nobody's matter
            last = (answer.output.strip().splitlines() or [""])[-1]
            found = [Promise(name=part, holds=False, told=f"{answer.content} {last}".strip())]
        yield part, found


def _examined(part: str, device: str) -> list[Promise]:
    from acmix_bench.cores import usable_cores
    from acmix_bench.meters import conditions, numerics
    from acmix_bench.train import devices

    numerics.hold({"products": "ieee", "cudnn_benchmark": False})
    conditions.use_device(device)
    conditions.hold({"threads": usable_cores(), "allocator": "keep"})
    return list(import_module(f"acmix_bench.doctor.{part}").promises(devices.found(device)))
