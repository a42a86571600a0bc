"""A run as pandas data frames: a line a row of the tables, or a line a raw sample. CSV, JSON and parquet come of them.

Names carry their units, and no digit is rounded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from acmix_bench import files, meters
from acmix_bench.analysis.compare import Comparison
from acmix_bench.errors import UserError
from acmix_bench.report.stamp import COLUMN, Stamp, stamped
from acmix_bench.report.table.raw import numbers_of
from acmix_bench.runs.record import Run


def frame_of(comparison: Comparison) -> pd.DataFrame:
    """A row of the tables a line.

    Columns, those of what was measured:
        variant, backbone, image_size (pixels): what the row is.
        parameters, macs, macs_STAGE, ledger, macs_executed, macs_backward, activations, ..._bytes, and whatever a meter
            of yours counts: numbers without noise, of one image.
        METER_images_per_s: the median rate; METER_ratio: over the baseline's, above 1 is faster.
        SCORE, as accuracy: the mean over seeds, a share of 1; SCORE_difference: to the baseline's, paired by seed.
        ..._low, ..._high, ..._samples: of each of these, the ends of its 95 % interval (of all ratios or differences
            together) and how many processes or seeds it comes from.
        METER_peak_bytes, METER_of_matmul (a share), METER_noise_floor (of the logarithm of a ratio),
            METER_first_seconds, METER_batch (images); on a GPU METER_reserved_bytes and METER_host_share (of a step's
            time that in which the host hands it out).
        status: ok, or how cells of the row failed; not_measured: cells that have no record; problems: what went wrong.
        timed_on: of a merged run, the machine of the timings; the rows of each further machine follow.
    """
    rows = []
    for one in (comparison, *comparison.others):
        machine = {"timed_on": str(one.run.plan.environment)} if comparison.run.plan.merged else {}
        rows += [numbers_of(line, one.run.plan.experiment.meters) | machine for line in one.lines]
    return _typed(rows)


def samples_of(run: Run) -> pd.DataFrame:
    """A raw sample of a timing a line.

    Columns:
        variant, backbone, data, image_size (pixels): the row and its case.
        meter; process: its number; block: of the process, in each of which every row has its turn.
        batch (images); seconds: a step of that batch.
        control: whether it is of the second copy of a first row, by which the noise floor is known.
        machine: where it was timed.
    """
    lines = []
    for record in (record for one in (run, *run.others) for record in one.records):
        cell, values = record.cell, record.values
        if record.status != "ok" or not meters.find(cell.meter).is_timing:
            continue
        case = {"variant": cell.row.label, **cell.row.case.model_dump(include={"backbone", "data", "image_size"})}
        of = {**case, "meter": cell.meter, "process": cell.repeat, "batch": values["batch"]}
        machine = {"machine": str(record.environment)}
        for key, control in (("seconds", False), ("again_seconds", True)):
            for block, seconds in enumerate(values.get(key, ())):
                lines.append(of | {"block": block, "seconds": seconds, "control": control} | machine)
    columns = ("variant", "backbone", "data", "image_size", "meter", "process", "block", "batch", "seconds", "control")
    return pd.DataFrame(lines, columns=[*columns, "machine"])


def to_csv(comparison: Comparison) -> str:
    """One line a row, every digit, units in the header."""
    return frame_of(comparison).to_csv(index=False, lineterminator="\n")


def to_json(comparison: Comparison) -> str:
    """A list with an object a row; what was not measured is null."""
    return _as_json(frame_of(comparison))


def _as_json(frame: pd.DataFrame) -> str:
    return json.dumps(frame.astype(object).where(frame.notna(), None).to_dict("records"), indent=1) + "\n"


def write_parquet(comparison: Comparison, path: Path, stamp: Stamp) -> None:
    """Write the rows for other programs, with their types and a stamp.

    Raises:
        UserError: where pyarrow is not installed, or the file cannot be written.
    """
    frame = frame_of(comparison)
    line = json.loads(stamped(to_json(comparison), stamp))[0][COLUMN]
    frame[COLUMN] = pd.Series([line] * len(frame), dtype="string")
    try:
        content = frame.to_parquet(None, index=False, engine="pyarrow")
    except ImportError as error:
        raise UserError('parquet needs pyarrow: pip install "acmix-bench[parquet]"') from error
    files.replace(path, content)


def parquet_as_json(path: Path) -> str:
    """The rows of a parquet file as `to_json` writes them.

    Raises:
        UserError: where pyarrow is not installed, or the file cannot be read.
    """
    try:
        return _as_json(pd.read_parquet(path, engine="pyarrow"))
    except ImportError as error:
        raise UserError('parquet needs pyarrow: pip install "acmix-bench[parquet]"') from error
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: is no parquet file that can be read") from error


def _typed(records: list[dict[str, Any]]) -> pd.DataFrame:
    """Counts are integers and estimates floats, also where a row has none."""
    frame = pd.DataFrame(
        records, columns=list(dict.fromkeys(key for record in records for key in record)), dtype=object
    )
    for name in frame:
        found = [value for value in frame[name] if value is not None and value == value]
        kinds = {type(value) for value in found}
        if kinds <= {int, float}:
            frame[name] = frame[name].astype("Int64" if kinds == {int} else "Float64")
        else:
            frame[name] = frame[name].astype("string")
    return frame
