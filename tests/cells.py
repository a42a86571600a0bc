"""Single cells and subjects, quickly measured."""

from __future__ import annotations

from acmix_bench import backbones
from acmix_bench.runs.code import code_of
from acmix_bench.spec import library
from acmix_bench.spec.cell import Cell, Row, cells_of
from acmix_bench.spec.experiment import Protocol

QUICK = Protocol(threads=1, batch=4, seconds=0.01, epochs=1)


def cell_of(variant: str, meter: str, backbone: str = "nano", size: int = 16, protocol: Protocol = QUICK) -> Cell:
    (row_variant,) = library.expand(variant, library.load_variant("acmix"))
    row = Row(label=variant, variant=row_variant, case=backbones.case_of(backbone, image_size=size))
    return next(cell for cell in cells_of([row], [meter], protocol, code_of) if cell.meter == meter)
