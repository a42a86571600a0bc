"""The cells of a sweep as jobs of Slurm, by submitit:

    pip install submitit
    acmix-bench ablate --experiment paths --launcher slurm.py:SLURM

Each group of cells is a job of the partition that PARTITION names. The folder that this is called in, and the package's
environment, must be the same on all its nodes. DEVICE=cuda asks for the GPU that the experiment's `device` names.
CLUSTER=local runs the jobs as processes of this machine, to try it.
"""

import os
import time

import submitit
from submitit.core.utils import FailedJobError

from acmix_bench.runs.accelerators import environment_on
from acmix_bench.runs.launch.launcher import Launcher
from acmix_bench.runs.work import unmeasured

SECONDS_BETWEEN_LOOKS = 1  # submitit itself asks Slurm once a minute


def executor(minutes=10, cpus=1, gpus=0, alone=False):
    """What submits one job; one that is timed has its node to itself."""
    made = submitit.AutoExecutor(folder="slurm", cluster=os.environ.get("CLUSTER"))
    slurm = {"slurm_partition": os.environ.get("PARTITION")} | ({"slurm_exclusive": True} if alone else {})
    made.update_parameters(timeout_min=minutes, cpus_per_task=cpus, gpus_per_node=gpus, **slurm)
    return made


def kinds():
    """A node of the partition. What is timed on a node of another kind is refused, and its row says so."""
    device = os.environ.get("DEVICE", "cpu")
    return [executor(gpus=int(device != "cpu")).submit(environment_on, device).result()]


def launch(groups, work, started):
    """A job a group; what Slurm ends is a record that says so."""
    jobs = {}
    try:
        for group in groups:
            minutes = int(work.timeout * len(group.cells) / 60) + 10
            jobs[executor(minutes, group.cpus, group.gpus, group.alone).submit(work, group.cells)] = group
        queued = set(jobs)
        while jobs:
            for job in [job for job in queued if job.state == "RUNNING" or job.done()]:
                queued.remove(job)
                started(jobs[job].cells, f"Slurm's job {job.job_id}")
            for job in [job for job in jobs if job.done()]:
                yield result(job, jobs.pop(job))
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        for job in jobs:
            job.cancel(check=False)


def result(job, group):
    """The records of a job that has ended."""
    try:
        return job.result()
    except (FailedJobError, TimeoutError) as error:
        reason = f"job {job.job_id}: {str(error).splitlines()[0]}"
        return unmeasured(group.cells, group.like or environment_on("cpu"), "crashed", reason)


SLURM = Launcher(launch=launch, kinds=kinds)
