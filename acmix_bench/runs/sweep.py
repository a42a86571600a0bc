"""The cells of a plan, measured where a launcher takes them, and a record of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from acmix_bench import meters
from acmix_bench.errors import UserError
from acmix_bench.runs.environment import Environment
from acmix_bench.runs.launch.here import here
from acmix_bench.runs.launch.launcher import Group, Launcher
from acmix_bench.runs.progress import Loudness, Progress, Tell
from acmix_bench.runs.record import Plan, Record
from acmix_bench.runs.work import Measure, Work, unmeasured
from acmix_bench.spec.cell import Cell, groups_of


def records(
    plan: Plan,
    done: Mapping[str, Record],
    measure: Measure,
    withheld: Mapping[str, str] | None = None,
    loudness: Loudness = "normal",
    launcher: Launcher | None = None,
    tell: Sequence[Tell] = (),
) -> Generator[Record, None, None]:
    """Measure the cells that are not done. Timings that belong together are made together, or again.

    Raises:
        UserError: where a launcher does not give a record of every cell.
    """
    launcher, withheld = launcher or here(), withheld or {}
    again = [cells for cells in groups_of(plan.cells) if any(cell.key not in done for cell in cells)]
    left = {cell.key: cell for cells in again for cell in cells}
    never = [cell for cell in left.values() if cell.row.label in withheld]
    fit = [[cell for cell in cells if cell.row.label not in withheld] for cells in again]
    groups = [group_of(cells, plan) for cells in fit if cells]
    work = Work(
        measure=measure,
        timeout=plan.experiment.protocol.timeout,
        folder=str(Path.cwd()),
        is_elsewhere=launcher.kinds is not None,
        device=plan.experiment.protocol.device,
    )
    jobs = launcher.jobs if any(group.is_score for group in groups) else 1
    kept_before = {key: record for key, record in done.items() if key not in left}
    with Progress(plan.cells, kept_before, loudness, jobs, tell, is_elsewhere=work.is_elsewhere) as progress:
        gpu = plan.environment.gpu
        if gpu and (gpu.runtime or "").startswith("CUDA") and gpu.power_limit_w is None:
            progress.say("clocks, power and MIG of the GPU are not recorded; pip install 'acmix-bench[gpu]'")
        for label, reason in withheld.items():
            progress.say(f"{label} is withheld: {reason}")

        def kept(record: Record) -> Generator[Record, None, None]:
            yield record  # it is on disk when this goes on
            progress.finished(record)

        for cell in never:
            del left[cell.key]
            yield from kept(*unmeasured([cell], plan.environment, "withheld", withheld[cell.row.label]))
        with closing(launcher.launch(groups, work, progress.start)) as launched:
            for found in launched:
                if not found or not all(isinstance(record, Record) for record in found):
                    raise UserError(f"a launcher must yield lists of records, as work gives them, not {found!r:.60}")
                progress.stop([record.cell for record in found])
                for record in found:
                    if left.pop(record.key, None):  # else one that came before
                        yield from kept(refused_if_unlike(record, plan))
    if left:
        raise UserError(f"the launcher ended without a record of {len(left)} cells; the same command goes on")


def group_of(cells: Sequence[Cell], plan: Plan) -> Group:
    """Cells that are measured together, with what they need of a machine."""
    meter, protocol = meters.find(cells[0].meter), plan.experiment.protocol
    counts = not (meter.alone or meter.repeats == "seeds")
    return Group(
        cells=tuple(cells),
        alone=meter.must_be_alone,
        like=plan.environment if meter.must_be_alone else None,
        cpus=1 if counts else protocol.threads or 1,
        gpus=int(protocol.device.startswith(("cuda", "xpu")) and "device" in meter.reads),
    )


def refused_if_unlike(record: Record, plan: Plan) -> Record:
    """A record, or one that says so in place of what other software gave, or of a timing of another kind of machine."""
    like = record.environment.software == plan.environment.software
    if record.environment == plan.environment or (like and not meters.find(record.cell.meter).must_be_alone):
        return record
    ours, theirs = plan.environment.facts(), record.environment.facts()
    names = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
    unlike = [f"{name} is {theirs.get(name)} and not {ours.get(name)}" for name in names]
    reason = f"measured where {', '.join(unlike)}: not to be compared with the others"
    update = {"status": "crashed", "reason": reason, "values": {}}
    return record.model_copy(update=update) if record.status == "ok" else record


def placed(plan: Plan, kinds: Sequence[Environment], before: Iterable[Record]) -> Plan:
    """The plan of a run whose cells run elsewhere, given what was measured before.

    Its timings stand in one environment: one that has them all, or else of those that are there the one that has most.
    Counts and scores count from every machine with the same Python and torch.
    """
    alone = {cell.key for cell in plan.cells if meters.find(cell.meter).must_be_alone}
    alike = [record for record in before if record.environment.software == plan.environment.software]
    timed = Counter({(r.key, r.environment): r.environment for r in alike if r.is_result and r.key in alone}.values())
    whole = [environment for environment, number in timed.items() if number == len(alone)]
    chosen = max([*whole, *kinds], key=lambda environment: timed[environment])
    others = dict.fromkeys([*kinds, *(record.environment for record in alike)])
    return plan.model_copy(update={"environment": chosen, "pooled": tuple(e for e in others if e != chosen)})
