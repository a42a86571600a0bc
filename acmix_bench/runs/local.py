"""Where a cell runs: in a fresh process of its own, on this machine.

A cell that crashes, hangs or fills the memory takes nothing with it, and none inherits another's caches, threads or
random numbers.
"""

from __future__ import annotations

import gc
import json
import math
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from acmix_bench import meters
from acmix_bench.cores import usable_cores
from acmix_bench.errors import UserError
from acmix_bench.meters.turns import Turns
from acmix_bench.runs.process import Limits, answer_of, beside, call
from acmix_bench.runs.record import Status
from acmix_bench.spec.cell import Cell

MOST_VALUES = 16 * 2**20  # bytes of them as JSON; a longer line is refused by who reads the records
TAIL = 2000  # characters of what a failed cell said last, in its record


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a cell: its values, or a status that says why there are none; and the end of what it printed."""

    status: Status
    reason: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    output: str = ""


def measure(
    cells: Sequence[Cell],
    timeout: float,
    turns: Turns | None = None,
    *,
    memory: float | None = None,
    cores: tuple[int, ...] = (),
    device: str = "",
    checkpoints: Path | None = None,
) -> list[Outcome]:
    """Run a meter on one cell, or on the cells that are timed together, in a process of their own.

    With `turns` they are timed in turns with those of another process. Where the process dies with several in it, or
    loses its device, or fails in what all of them share, each is tried alone, so that the one at fault is known.

    Args:
        timeout: seconds a cell.
        memory: GiB that the process may hold.
        cores: those that it may run on, where not all.
        device: of several of the protocol's kind the one to run on.
        checkpoints: where a score keeps what it goes on from, in a folder by its key.
    """
    trains = meters.find(cells[0].meter).repeats == "seeds"
    limits = Limits(seconds=timeout * len(cells), memory=memory, cores=cores, patient=trains)
    folder = None
    if trains and checkpoints and checkpoints.parent.is_dir():  # not on a node that does not see it
        folder = checkpoints / cells[0].key
    answer = answer_of(partial(_measure, turns=turns, folder=folder, device=device), cells, limits)
    if answer.status == "ok" and answer.content:
        return [_with_output(outcome, answer.output) for outcome in answer.content]
    if len(cells) > 1 and not turns:
        alone = partial(measure, timeout=timeout, memory=memory, cores=cores, device=device)
        return [outcome for cell in cells for outcome in alone([cell])]
    status: Status = "timeout" if answer.status == "timeout" else "crashed"
    return [_with_output(Outcome(status=status, reason=answer.content), answer.output) for _ in cells]


def _with_output(outcome: Outcome, output: str) -> Outcome:
    """Beside what was printed, whose end is kept with a failure."""
    told = {"output": output[-TAIL:]} if output and outcome.status != "ok" else {}
    return replace(outcome, values=outcome.values | told, output=output)


def misfits(cells: Sequence[Cell], timeout: float) -> dict[str, str]:
    """Try the shapes of cells before anything is measured: why each row that cannot be cannot, by its label.

    Only what a user did wrong is told. What else goes wrong is told by the cell, when it is measured.
    """
    cores = usable_cores()
    parts = [cells[first::cores] for first in range(cores) if cells[first:]]
    answers = beside(partial(call, _misfits, timeout=timeout), parts, cores)
    return {label: why for status, content in answers if status == "ok" for label, why in content.items()}


def _measure(cells: Sequence[Cell], *, turns: Turns | None, folder: Path | None, device: str = "") -> list[Outcome]:
    """Measure cells in this process; nothing is given where several failed together, and each is to be tried alone."""
    import torch._inductor.config

    from acmix_bench.meters import conditions, latency, numerics
    from acmix_bench.meters.subject import Subject

    torch._inductor.config.compile_threads = 1  # its pool of workers would outlive this process
    if meters.find(cells[0].meter).repeats == "once":
        gc.disable()  # a count is over before its garbage matters
    meter, protocol = meters.find(cells[0].meter), cells[0].protocol
    held = numerics.hold(protocol)  # before the device is: its libraries read it when they begin
    if "device" in protocol:
        held |= conditions.use_device(device or protocol["device"])
    if meter.is_timing:
        held |= conditions.hold(protocol)
    elif "threads" in protocol:  # on any cores: pinned, trainings of several sweeps would share the first
        conditions.use_threads(protocol["threads"])
    subjects = [Subject.of(cell, folder) for cell in cells]
    try:
        if meter.is_timing:
            results = latency.alternate(subjects, meter.measure, turns=turns)
        else:
            results = [meter.measure(subjects[0])]
    except Exception as error:  # noqa: BLE001 - whatever a user's code raises is this row's result, not the run's end
        if len(cells) > 1 and not turns:
            return []
        results = [error] * len(cells)
    return [outcome_of(result, held, name=cells[0].meter) for result in results]


def _refuse_odd_numbers(values: dict[str, Any], name: str) -> None:
    """Refuse values that do not hold the numbers that their meter declares."""
    meter = meters.find(name)
    for metric in meter.metrics:
        found = values.get(metric.key)
        numbers = list(found.values()) if isinstance(found, dict) else [found] * (found is not None)
        odd = [number for number in numbers if not isinstance(number, int | float) or isinstance(number, bool)]
        needed = metric == meter.metrics[0] if meter.repeats == "seeds" else metric.title
        if odd or (not numbers and found is None and needed):
            told = f"but {odd[0]!r:.40}" if odd else f"but only {', '.join(values) or 'nothing'}"
            raise UserError(f"meter {name} must give a number as '{metric.key}', {told}")


def outcome_of(result: Any, more: dict[str, Any] | None = None, *, name: str) -> Outcome:
    """What came of a meter, in values that JSON can hold."""
    from acmix_bench.train.loop import Diverged

    try:
        if isinstance(result, Exception):
            raise result
        if not isinstance(result, dict):
            raise UserError(f"a meter must give a dict of JSON values, and gave {result!r:.60}")
        text = json.dumps(_plain(result | (more or {})))
        if len(text) > MOST_VALUES:
            raise UserError(f"a meter may give {MOST_VALUES // 2**20} MiB of values, and gave {len(text) // 2**20}")
        values = json.loads(text)
        _refuse_odd_numbers(values, name)
        return Outcome(status="ok", values=values)
    except Diverged as error:
        return Outcome(status="diverged", reason=_text(str(error)))
    except UserError as error:
        return Outcome(status="crashed", reason=str(error))
    except Exception as error:  # noqa: BLE001 - as above
        first_line = _text(f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}")
        details = _text("".join(traceback.format_exception(error)))
        return Outcome(status="crashed", reason=first_line, values={"traceback": details})


def _plain(value: Any, key: str = "") -> Any:
    """Raw values as JSON holds them: what numpy and torch give becomes numbers and lists.

    Raises:
        UserError: naming the key of what cannot be, or is no finite number.
    """
    if isinstance(value, dict):
        return {_text(str(name)): _plain(inner, f"{key}.{name}" if key else str(name)) for name, inner in value.items()}
    if not isinstance(value, str | int | float | None) and hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(inner, key) for inner in value]
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"a meter gave {key}={value}, which is not a finite number")
    if not isinstance(value, str | int | float | None):
        raise UserError(f"a meter gave {key}={value!r:.60}, but its values must be numbers, texts, lists or mappings")
    return value


def _text(text: str) -> str:
    """A text as a file can hold it: half a character, as the name of a file may have, is written out."""
    return text.encode(errors="backslashreplace").decode()


def _misfits(cells: Sequence[Cell]) -> dict[str, str]:
    from acmix_bench.meters import conditions, subject

    conditions.use_threads(1)  # there is such a process a core
    found: dict[str, str] = {}
    for cell in cells:
        try:
            subject.try_out(cell)
        except UserError as error:
            found.setdefault(cell.row.label, str(error))
        except Exception:  # noqa: BLE001 - the cell itself will fail, and say how
            continue
    return found
