"""How small a difference does the gate see, and how often does it see one that is not there?

    python tests/benchmarks/detection.py [--comparisons 40] [--tries 10] [--out FILE]

Versions are served and timed in turns exactly as `acmix-bench regress` does it, and the gate's own rule decides. Each
comparison is of the operator with itself, or with one that does real extra work: it runs 5 or 2 images of each 100 a
second time, forward and backward. About 20 minutes; nothing else may run on the machine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import torch
import yaml

from acmix_bench.analysis import finding
from acmix_bench.ops.acmix import ACmix
from acmix_bench.regress import Side, served
from acmix_bench.runs.environment import machine_state, this_environment

BATCH, LIMIT, PRECISION, BUDGET, MIN_PAIRS = 100, 0.02, 0.015, 110.0, 8


class Slowed(ACmix):
    """ACmix that runs the first `again` images of a batch twice and drops the copies."""

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1, again: int = 0) -> None:
        super().__init__(in_channels, channels, stride=stride)
        self.again = again

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.cat([x, x[: self.again]]))[: len(x)]


def compare(base: Side, head: Side, repeats: Iterator[int], folder: Path) -> dict[str, object]:
    """Compare two versions until their ratio is known to within the precision, or the time is up."""
    start, pairs = time.monotonic(), []
    while True:
        repeat = next(repeats)
        sides = (base, head) if repeat % 2 else (head, base)
        for side in sides:
            side.ask(len(side.groups) - 1 - repeat, folder / "turns", first=side is sides[0])
        for side in sides:
            side.answer()
        pairs.append(tuple(_seconds(side) for side in (base, head)))
        if len(pairs) < MIN_PAIRS:
            continue
        ratio, floor = finding.paired(pairs, confidence=0.95)
        if ratio.margin <= PRECISION or time.monotonic() - start > BUDGET:
            break
    return {
        "ratio": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
        "floor": floor,
        "pairs": len(pairs),
        "seconds": time.monotonic() - start,
        "verdict": finding.verdict(ratio, threshold=LIMIT, noise_floor=floor),
        "without_limit": finding.verdict(ratio, threshold=0.0, noise_floor=floor),
    }


def _seconds(side: Side) -> list[float]:
    """The samples of the newest record."""
    newest = (side.store.folder / "records.jsonl").read_bytes().splitlines()[-1]
    return json.loads(newest)["values"]["seconds"]


def _experiment(folder: Path, again: int, meter: str) -> str:
    """An experiment file whose only row runs `again` images of a batch twice."""
    words = {"summary": "the operator, some images twice", "claim": "none", "operator": "detection:Slowed"}
    variant, experiment = folder / f"variant{again}.yaml", folder / f"detection{again}.yaml"
    variant.write_text(yaml.safe_dump(words | {"options": {"again": again}}))
    told = dict.fromkeys(("question", "source", "command", "time", "expected"), "detection")
    protocol = {"batch": BATCH, "seconds": 0.5, "processes": 3000}
    told |= {"baseline": str(variant), "backbone": "operator-32", "image_size": 8, "meters": [meter]}
    experiment.write_text(yaml.safe_dump(told | {"protocol": protocol}))
    return str(experiment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=40)
    parser.add_argument("--tries", type=int, default=10)
    parser.add_argument("--meter", default="training", choices=["inference", "training"])
    parser.add_argument("--out", type=Path, default=Path("detection.json"))
    arguments = parser.parse_args()
    # Where the served versions find Slowed.
    os.environ["PYTHONPATH"] = f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"
    results: list[dict[str, object]] = []
    kinds = _mixed([0] * arguments.comparisons + [5, 2] * arguments.tries)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        python = Path(sys.executable)

        def serve(name: str, again: int) -> Side:
            experiment = _experiment(folder, again, arguments.meter)
            return stack.enter_context(served(name, python, experiment, [], folder / name))

        base, heads = serve("base", 0), {again: serve(f"head{again}", again) for again in sorted(set(kinds))}
        for side in (base, *heads.values()):
            _ = side.groups
        repeats = itertools.count()
        for again in kinds:
            result = {"again": again} | compare(base, heads[again], repeats, folder)
            results.append(result)
            print(
                " ".join(
                    f"{key} {value:.3g}" if isinstance(value, float) else f"{value}" for key, value in result.items()
                )
            )
            environment = this_environment().model_dump() | {"state": machine_state().model_dump()}
            told = {"environment": environment, "limit": LIMIT, "meter": arguments.meter, "results": results}
            arguments.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _mixed(kinds: list[int]) -> list[int]:
    """Spread each kind evenly over the whole."""
    places = []
    for kind in sorted(set(kinds)):
        count = kinds.count(kind)
        places += [((number + 0.5) / count, kind) for number in range(count)]
    return [kind for _, kind in sorted(places)]


if __name__ == "__main__":
    main()
