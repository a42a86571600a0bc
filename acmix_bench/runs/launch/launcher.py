"""The contract of what runs a sweep's cells, a file of its own here or a user's:

    def launch(groups, work, started):
        for group in groups:
            started(group.cells, "node 7")
            yield work(group.cells)

    MINE = Launcher(launch=launch, kinds=lambda: [environment of a node])

`launch` gets groups of cells and calls `work` for each, on whichever machine and in whatever order it likes. It yields
the records that `work` gives as they come; they are on disk before the next are asked for. Ctrl-C is raised in it, or
closes it: what it has started must then end. `work` can be pickled. Where it is called it checks that the code is the
cells', and it gives records with that machine's environment. A cell that fails is a record too.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from acmix_bench import meters
from acmix_bench.runs.environment import Environment
from acmix_bench.runs.record import Record
from acmix_bench.runs.work import Work
from acmix_bench.spec.cell import Cell


@dataclass(frozen=True, kw_only=True)
class Group:
    """Cells that are measured together, in one process.

    Attributes:
        alone: whether nothing else may run on the machine meanwhile.
        like: what is alone must run in this environment, and is refused from any other.
        cpus: how many cores it uses.
        gpus: how many GPUs it uses.
    """

    cells: tuple[Cell, ...]
    alone: bool
    like: Environment | None
    cpus: int
    gpus: int

    @property
    def is_score(self) -> bool:
        """Whether it is a training, which takes long and may run beside others."""
        return meters.find(self.cells[0].meter).repeats == "seeds"


Started = Callable[[Sequence[Cell], str], None]
Launch = Callable[[Sequence[Group], Work, Started], Generator[list[Record], None, None]]


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """A way to run the cells of a sweep.

    Attributes:
        launch: measures groups of cells: see above.
        kinds: gives the environments of the machines, the most frequent first. All timings of a run are made in one of
            them. None: everything runs here.
        jobs: how many scores run at once, for the time left.
    """

    launch: Launch
    kinds: Callable[[], Sequence[Environment]] | None = None
    jobs: int = 1
