"""Cells on a Ray cluster. The cells' order, and what runs beside what, is decided here; Ray carries them to the nodes.

A node is taken when it has told its environment and shown that its code is the plan's. On it a cell runs as it does
here: in a process of its own, whose crash is a record. Where a node is lost, what ran there runs again.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from acmix_bench.errors import UserError
from acmix_bench.runs.accelerators import environment_on
from acmix_bench.runs.environment import Environment
from acmix_bench.runs.launch.launcher import Group, Launcher, Started
from acmix_bench.runs.record import Plan, Record
from acmix_bench.runs.work import Work, enter, other_code, unmeasured
from acmix_bench.spec.cell import Cell

TRIES = 3  # of cells whose node is lost
ANSWER_SECONDS, NODES_SECONDS, IDLE_SECONDS = 10, 60, 60


@contextmanager
def connected(address: str | None, plan: Plan) -> Iterator[Launcher]:
    """Launch on the cluster at an address, or else on the one that runs on this machine.

    Raises:
        UserError: where Ray is not installed, no cluster answers, or none of its nodes can measure this plan.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise UserError(f"--launcher ray: {error}; pip install 'acmix-bench[ray]'") from error
    _refuse_silent(address)
    heard = signal.getsignal(signal.SIGTERM)
    try:
        try:
            ray.init(address=address or "auto", log_to_driver=False, logging_level=logging.FATAL)
        except ConnectionError as error:
            raise UserError(f"--launcher ray: {_line(error)}") from error
        signal.signal(signal.SIGTERM, heard)  # Ray has set its own
        cluster = Cluster(ray, plan)
        kinds = cluster.kinds()
        threads = plan.experiment.protocol.threads or 1
        jobs = max(1, sum(node.cpus // threads for node in cluster.nodes.values()))
        yield Launcher(launch=cluster.launch, kinds=lambda: kinds, jobs=jobs)
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, heard)


def _refuse_silent(address: str | None) -> None:
    """Ask a cluster whether it is there; Ray itself would try for two minutes, and then end this process."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check"]
    where = f"--address {address}" if address else "--launcher ray"
    try:
        asked = [*command, "--address", address] if address else command
        told = subprocess.run(asked, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{where}: no Ray cluster answers there; `ray start --head` tells its HOST:PORT") from error
    if told.returncode:
        last = (told.stderr.strip().splitlines() or ["it is not healthy"])[-1]
        raise UserError(f"{where}: {last.partition(': ')[2] or last}")


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node that can be used. Nodes of one machine, such as containers, have the same `machine`."""

    id: str
    name: str
    machine: str
    environment: Environment
    cpus: int
    gpus: int


Placed = tuple[Group, Node]


class Cluster:
    """The nodes that are there, and which of them runs what."""

    def __init__(self, ray: ModuleType, plan: Plan) -> None:
        self.ray, self.plan, self.folder = ray, plan, str(Path.cwd())
        self.nodes: dict[str, Node] = {}
        self.asked: dict[Any, dict[str, Any]] = {}  # nodes that have not answered yet, as Ray describes them
        self.refused: dict[str, str] = {}
        self._survey = ray.remote(num_cpus=0, max_retries=0)(_survey)
        self._measure = ray.remote(max_retries=0)(_measure)

    def _on(self, node: str) -> Any:
        return self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)

    def kinds(self) -> list[Environment]:
        """The environments of the nodes, the most frequent first.

        Raises:
            UserError: where no node can measure the plan, saying why one cannot.
        """
        end = time.monotonic() + NODES_SECONDS
        self.look()
        while (self.asked or not (self.nodes or self.refused)) and time.monotonic() < end:
            time.sleep(0.1)
            self.look()
        if not self.nodes:
            why = next(iter(self.refused.values()), f"none with a CPU has answered within {NODES_SECONDS} s")
            raise UserError(f"--launcher ray: no node can measure this: {why}")
        return [kind for kind, _ in Counter(node.environment for node in self.nodes.values()).most_common()]

    def look(self) -> None:
        """Ask nodes that are new, take those that have answered, forget those that are gone."""
        found = {one["NodeID"]: one for one in self.ray.nodes() if one["Alive"] and one["Resources"].get("CPU", 0) >= 1}
        self.nodes = {id: node for id, node in self.nodes.items() if id in found}
        for ref in self.ray.wait(list(self.asked), num_returns=len(self.asked), timeout=0)[0] if self.asked else []:
            self._take(self.asked.pop(ref), ref)
        known = {*self.nodes, *self.refused, *(one["NodeID"] for one in self.asked.values())}
        cells = list({(cell.row.label, cell.meter): cell for cell in self.plan.cells}.values())
        for id in set(found) - known:
            survey = self._survey.options(scheduling_strategy=self._on(id))
            ref = survey.remote(cells, self.folder, self.plan.experiment.protocol.device)
            self.asked[ref] = found[id]

    def _take(self, told: Mapping[str, Any], ref: Any) -> None:
        """Take a node that has answered, or refuse it once and for all."""
        id, name = told["NodeID"], told["NodeManagerHostname"]
        if any(node.name == name for node in self.nodes.values()):
            name = f"{name}-{id[:6]}"
        try:
            environment, machine, reason = self.ray.get(ref)
        except self.ray.exceptions.RayTaskError as error:
            reason = f"it cannot run acmix-bench ({_line(error)}); install this version on every node"
        except self.ray.exceptions.RayError:  # it is gone, or is asked again
            return
        else:
            if not reason and environment.software != self.plan.environment.software:
                python, torch = environment.software
                reason = f"it has Python {python} and torch {torch}, and here are {self.plan.environment.software}"
        if reason:
            self.refused[id] = f"{name}: {reason}"
            print(f"node {name} is left out: {reason}", file=sys.stderr, flush=True)
            return
        cpus, gpus = (int(told["Resources"].get(what, 0)) for what in ("CPU", "GPU"))
        self.nodes[id] = Node(id=id, name=name, machine=machine, environment=environment, cpus=cpus, gpus=gpus)

    def launch(self, groups: Sequence[Group], work: Work, started: Started) -> Generator[list[Record], None, None]:
        """Measure groups on the nodes: counts first, then what must be alone, then trainings, as there is room.

        Raises:
            UserError: where no node is large enough for a group, or all nodes are gone.
        """
        waiting = sorted(groups, key=lambda group: (group.is_score, group.alone))
        self._refuse_too_large(waiting)
        running: dict[Any, Placed] = {}
        lost: Counter[str] = Counter()
        idle = time.monotonic()
        try:
            while waiting or running:
                self.look()
                for group, node in room(list(self.nodes.values()), waiting, list(running.values())):
                    waiting.remove(group)
                    started(group.cells, node.name)
                    options = {"num_cpus": node.cpus if group.alone else group.cpus, "num_gpus": group.gpus}
                    task = self._measure.options(scheduling_strategy=self._on(node.id), **options)
                    running[task.remote(work, group.cells)] = (group, node)
                if running:
                    idle = time.monotonic()
                elif time.monotonic() - idle > IDLE_SECONDS:
                    yield from self._given_up(waiting)
                    return
                if not running:
                    time.sleep(1)
                ready = self.ray.wait(list(running), timeout=1)[0] if running else []
                for ref in ready:
                    group, node = running.pop(ref)
                    if found := self._found(ref, group, node, lost):
                        yield found
                    else:
                        waiting.insert(0, group)
        finally:
            if running:  # after Ctrl-C: Ray ends them; cancelling one that is just ending would abort this process
                self.ray.shutdown()

    def _found(self, ref: Any, group: Group, node: Node, lost: Counter[str]) -> list[Record]:
        """The records of a group that has ended; none where its node is lost and it is to run again.

        Args:
            lost: how often each node, and each group by its first cell, was lost before.
        """
        try:
            found: list[Record] = self.ray.get(ref)
            return found
        except (self.ray.exceptions.RayTaskError, self.ray.exceptions.OutOfMemoryError) as error:
            return unmeasured(group.cells, node.environment, "crashed", f"on {node.name}: {_line(error)}")
        except self.ray.exceptions.RayError as error:
            self.nodes.pop(node.id, None)  # if it is still there, it is asked again
            if not lost[node.id]:
                print(f"node {node.name} is lost: what ran there runs again", file=sys.stderr, flush=True)
            lost.update([node.id, group.cells[0].key])
            if lost[group.cells[0].key] < TRIES:
                return []
            reason = f"its node was lost, {TRIES} times; the last was {node.name}: {_line(error)}"
            return unmeasured(group.cells, node.environment, "crashed", reason)

    def _refuse_too_large(self, groups: Sequence[Group]) -> None:
        for group in groups:
            nodes = [node for node in self.nodes.values() if group.like in (None, node.environment)]
            if nodes and group.cpus > (most := max(node.cpus for node in nodes)):
                raise UserError(f"threads={group.cpus}: the largest node has {most} CPUs; --set threads={most}")
            if nodes and group.gpus > max(node.gpus for node in nodes):
                raise UserError(f"device={self.plan.experiment.protocol.device}: no node has a GPU for it")

    def _given_up(self, waiting: Sequence[Group]) -> Iterator[list[Record]]:
        """Records of what no node can measure any more.

        Raises:
            UserError: where no node is left at all.
        """
        if not self.nodes:
            raise UserError("--launcher ray: all nodes are gone; what is finished is kept; the same command goes on")
        for group in waiting:
            environment = group.like or next(iter(self.nodes.values())).environment
            reason = f"no node is left that could measure it{f', like {group.like}' if group.like else ''}"
            yield unmeasured(group.cells, environment, "crashed", reason)


def room(nodes: Sequence[Node], waiting: Sequence[Group], running: Sequence[Placed]) -> list[Placed]:
    """Which of the waiting groups start now, and where.

    What must be alone waits for a machine that is empty. Meanwhile no training starts on as many as it needs.
    """
    placed, full = list(running), set[tuple[Any, ...]]()
    alone = [group for group in waiting if group.alone]
    busy = Counter(node.machine for _, node in placed)
    machines = {node.machine for node in nodes if alone and node.environment == alone[0].like}
    kept = set(sorted(machines, key=lambda machine: busy[machine])[: len(alone)])
    for group in waiting:
        needs = (group.alone, group.is_score, group.cpus, group.gpus)
        fitting = [node for node in nodes if needs not in full and _fits(group, node, placed, kept)]
        if fitting:
            placed.append((group, max(fitting, key=lambda node: _left(node, placed)[0])))
        else:
            full.add(needs)
    return placed[len(running) :]


def _fits(group: Group, node: Node, placed: Sequence[Placed], kept: set[str]) -> bool:
    """Whether a group can start on a node now, beside what runs there."""
    beside = [other for other, where in placed if where.machine == node.machine]
    if any(other.alone for other in beside):
        return False
    if group.alone and (beside or node.environment != group.like):
        return False
    if group.is_score and node.machine in kept:
        return False
    cpus, gpus = _left(node, placed)
    return group.cpus <= cpus and group.gpus <= gpus


def _left(node: Node, placed: Sequence[Placed]) -> tuple[int, int]:
    """The CPUs and GPUs of a node that nothing of ours uses."""
    there = [group for group, where in placed if where.id == node.id]
    return node.cpus - sum(group.cpus for group in there), node.gpus - sum(group.gpus for group in there)


def _survey(cells: Sequence[Cell], folder: str, device: str) -> tuple[Environment, str, str | None]:
    """On a node: its environment, the machine that it is on, and why it cannot measure these cells."""
    enter(folder)
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":  # Ray hides the GPUs from what asks for none
        del os.environ["CUDA_VISIBLE_DEVICES"]
    machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return environment_on(device), machine, next(filter(None, map(other_code, cells)), None)


def _measure(work: Work, cells: Sequence[Cell]) -> list[Record]:
    """On a node: measure cells. What Ray tells OpenMP is left out, because the protocol sets the threads."""
    if b"OMP_NUM_THREADS=" not in Path("/proc/self/environ").read_bytes():
        os.environ["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
    return work(cells)


def _line(error: Exception) -> str:
    """What an error says, in a line; of one on a node the last, which is its own."""
    cause = getattr(error, "cause", None)
    lines = str(cause or error).strip().splitlines() or [type(error).__name__]
    return f"{type(cause).__name__}: {lines[0]}" if cause else lines[0]
