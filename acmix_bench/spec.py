"""What is measured, as data: variants, cases, protocols, experiments, and the cells they make.

Everything here is an immutable value. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from acmix_bench import strict
from acmix_bench.errors import UserError, unknown
from acmix_bench.meters import METERS

PACKAGE = resources.files("acmix_bench")
FILES = {"variant": ("variants", ".yaml"), "experiment": ("experiments", ".yaml"), "published": ("published", ".csv")}
OPERATORS = ("acmix", "conv", "plain")
DEFAULT_BACKBONE = "nano"
# The code whose behaviour a measurement depends on: part of every cell's key.
MEASURED_CODE = ("ops", "backbones", "data", "meters")


class Value(BaseModel):
    """An immutable record that takes no unknown key."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Variant(Value):
    """A named choice on the operator's axes."""

    summary: str = Field(min_length=1, description="what it changes")
    claim: str = Field(min_length=1, description="which claim or table of the paper it serves")

    operator: str = "acmix"
    options: dict[str, Any] = {}
    paths: Literal["both", "attention", "conv"] = "both"
    mix: Literal["fixed", "alpha", "alpha-beta"] = "alpha-beta"
    shift: Literal["tensor", "group"] = "group"
    kernel: Literal["fixed", "learned"] = "learned"
    init: Literal["shift", "random"] = "shift"
    attention: Literal["native", "local", "window", "patchwise", "global"] = "native"
    heads: int = Field(4, ge=1)
    window: int = Field(7, ge=1)
    kernel_size: int = Field(3, ge=1)
    implementation: Literal["production", "reference", "compiled", "fused", "fused-compiled"] = "production"

    @field_validator("operator")
    @classmethod
    def _known_operator(cls, operator: str) -> str:
        if operator not in OPERATORS and ":" not in operator:
            raise unknown("operator", operator, [*OPERATORS, "package.module:Class"])
        return operator

    @field_validator("window", "kernel_size")
    @classmethod
    def _odd(cls, edge: int, info: ValidationInfo) -> int:
        if edge % 2 == 0:
            raise UserError(f"{info.field_name}={edge} is even, but it is centred on a pixel: use an odd number")
        return edge

    @property
    def is_compiled(self) -> bool:
        """Whether torch.compile runs any of it."""
        return self.implementation in ("compiled", "fused-compiled")

    def is_measured_by(self, meter: str) -> bool:
        """Whether this meter's number of it says something."""
        return meter in IMPLEMENTATION_METERS.get(self.implementation, METERS)

    @property
    def is_fused(self) -> bool:
        """Whether the network round it is fused for inference."""
        return self.implementation in ("fused", "fused-compiled")

    def content(self) -> dict[str, Any]:
        """The axes that have an effect here: what the variant is, whatever it is called."""
        if self.operator == "conv":
            return {"operator": "conv", "kernel_size": self.kernel_size}
        if self.operator == "plain":
            return {"operator": "plain"} | ({"implementation": self.implementation} if self.is_fused else {})
        if self.operator != "acmix":
            return {"operator": self.operator, "options": self.options}
        inert: set[str] = {"options"}
        if self.paths != "both":
            inert |= {"mix"}
        if self.paths == "attention":
            inert |= {"shift", "kernel", "init", "kernel_size"}
        if self.paths == "conv":
            inert |= {"window"}
        if self.shift == "tensor":
            inert |= {"kernel", "init"}
        return {axis: getattr(self, axis) for axis in AXES if axis not in inert}

    def label(self, baseline: Variant) -> str:
        """The difference to the baseline, as `--variant` takes it; `baseline` where there is none."""
        theirs = baseline.model_dump()
        differs = [f"{axis}={_plain(value)}" for axis, value in self.content().items() if value != theirs[axis]]
        return ",".join(differs) or "baseline"


AXES: dict[str, str] = {
    "operator": "acmix, conv (a k x k convolution), plain (what the backbone has), or your own as package.module:Class",
    "options": "keyword arguments of an operator of your own",
    "paths": "which stage II paths exist",
    "mix": "how the two paths are added: (1, 1), (alpha, 1 - alpha), (alpha, beta)",
    "shift": "how the taps are moved: slicing and adding, or a grouped convolution",
    "kernel": "whether the grouped convolution's weights train",
    "init": "how they start: as the shift, or at random",
    "attention": "the attention's formulation; native is the backbone's own",
    "heads": "attention heads, N, of local attention",
    "window": "edge of the window of local attention, odd",
    "kernel_size": "edge of the convolution, odd",
    "implementation": "the fast operator, its literal reference, torch.compile's, or for inference a fused network",
}


# What an implementation that is no function of its own can be measured by.
IMPLEMENTATION_METERS = {
    "compiled": ("params", "macs", "parity", "inference", "training", "product"),
    "fused": ("params", "macs", "parity", "inference", "product"),
    "fused-compiled": ("params", "macs", "parity", "inference", "product"),
}
# The axes that leave others without effect.
DECIDING = ("operator", "paths", "shift")


class Case(Value):
    """Where a variant is measured: a backbone, its input's size, and the data set that sets channels and classes."""

    backbone: str = Field(description="where the operator stands; see Backbones")
    image_size: int = Field(ge=1, description="edge of the input in pixels; the backbone's own where not set")
    data: str = Field(description="the data set; the backbone's own where not set")


class Protocol(Value):
    """How it is measured."""

    device: str = Field("cpu", description="a torch device, such as cpu or cuda")
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = Field(
        "float32", description="half types run under autocast"
    )
    threads: int | None = Field(None, ge=1, description="CPU threads; all cores where not set")
    allocator: Literal["keep", "default"] = Field(
        "keep", description="keep: the process keeps all freed memory; default: large blocks go back, and fault again"
    )
    layout: Literal["contiguous", "channels-last"] = Field("contiguous", description="images and kernels in memory")
    batch: int = Field(32, ge=1, description="images a batch when throughput is timed; halved where memory runs out")
    processes: int = Field(10, ge=1, description="fresh processes in which all variants are timed alternately")
    seconds: float = Field(0.2, gt=0, description="how long a variant is timed in each process, at most")
    precision: float = Field(0.005, gt=0, description="half-width of a ratio's interval at which a process stops")
    data_root: str = Field("data", description="folder of the data sets that are not embedded")
    seeds: int = Field(5, ge=1, description="training runs a variant, with seeds 0, 1, 2, ...")
    epochs: int = Field(3, ge=1, description="passes over the training images")
    train_batch: int = Field(64, ge=1, description="images a batch when training")
    learning_rate: float = Field(2e-3, gt=0, description="peak of AdamW's cosine schedule")
    weight_decay: float = Field(0.05, ge=0, description="of AdamW")
    timeout: float = Field(600.0, gt=0, description="seconds after which one cell is given up")


class Experiment(Value):
    """A question, and the cells that answer it."""

    name: str
    question: str = Field(min_length=1)
    source: str = Field(min_length=1)
    command: str = Field(min_length=1)
    time: str = Field(min_length=1, description="expected, on 2 cores")
    expected: str = Field(min_length=1, description="expected outcome")
    baseline: str = "acmix"
    variants: tuple[str, ...] = Field((), description="names, files or axis=value[,value] grids")
    models: tuple[str, ...] = Field((), description="BACKBONE[-VARIANT][@SIZE] names, in place of variants")
    backbone: str = DEFAULT_BACKBONE
    image_size: int | None = Field(None, ge=1)
    data: str | None = None
    implementation: Literal["production", "reference"] | None = Field(
        None, description="run every ACmix row in this one; as each variant says where not set"
    )
    meters: tuple[str, ...] = Field(("params", "macs", "inference", "training", "accuracy"), min_length=1)
    protocol: Protocol = Protocol()

    @field_validator("meters")
    @classmethod
    def _known_meters(cls, meters: tuple[str, ...]) -> tuple[str, ...]:
        for meter in meters:
            if meter not in METERS:
                raise unknown("meter", meter, METERS)
        return meters


class Row(Value):
    """One line of a table: a variant under the label that tells it from the baseline."""

    label: str
    variant: Variant
    case: Case

    @property
    def content(self) -> str:
        """What is measured, whatever it is called: rows of equal content are one."""
        return json.dumps([self.variant.content(), self.case.model_dump()], sort_keys=True)


class Cell(Value):
    """One measurement to make. Its key hashes the content of all that can change the number."""

    row: Row
    meter: str
    repeat: int = Field(description="timing process or training seed")
    protocol: dict[str, Any] = Field(description="the part of the protocol that this meter reads")
    code: str = Field(description="hash of the code that runs")

    @property
    def key(self) -> str:
        content = self.model_dump(exclude={"row"})
        content |= {"variant": self.row.variant.content(), "case": self.row.case.model_dump()}
        return _hash(json.dumps(content, sort_keys=True).encode())


def cells_of(rows: Sequence[Row], meters: Sequence[str], protocol: Protocol, code: Mapping[str, str]) -> list[Cell]:
    """All cells, repeat by repeat: after the first pass everything has a number, and the time left is known.

    `code` holds the version of the code that each operator runs.
    """
    if any(METERS[meter].is_timing for meter in meters) and "parity" not in meters:
        meters = ("parity", *meters)  # nothing is timed before it is known to be what it says
    repeats = {"processes": protocol.processes, "seeds": protocol.seeds, "once": 1}
    cells = []
    for repeat in range(max(repeats.values())):
        for meter in meters:
            if repeat >= repeats[METERS[meter].repeats]:
                continue
            reads = {key: getattr(protocol, key) for key in METERS[meter].reads}
            for row in rows:
                version = code[row.variant.operator]
                cells.append(Cell(row=row, meter=meter, repeat=repeat, protocol=reads, code=version))
    return cells


def groups_of(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Which cells are measured together: timings of one case in one process, everything else alone."""
    groups: dict[Any, list[Cell]] = {}
    for number, cell in enumerate(cells):
        together = (cell.meter, cell.repeat, cell.row.case.model_dump_json())
        groups.setdefault(together if METERS[cell.meter].is_timing else number, []).append(cell)
    return list(groups.values())


def rows_of(experiment: Experiment, case: Case, extra: Sequence[str] = ()) -> list[Row]:
    """The baseline, then every variant that differs from it, each once."""
    baseline = load_variant(experiment.baseline)
    variants = [baseline]
    for text in (*experiment.variants, *extra):
        variants += expand(text, baseline)
    rows = [Row(label=variant.label(baseline), variant=variant, case=case) for variant in variants]
    unique: dict[str, Row] = {}
    for row in rows:
        unique.setdefault(row.content, row)
    return list(unique.values())


def expand(text: str, baseline: Variant) -> list[Variant]:
    """Read one `--variant`: a name, a YAML file, or a grid as `axis=value[,value][,axis=value...]`.

    Values after a comma belong to the axis before it; a second axis makes every combination.
    """
    if "=" not in text:
        return [load_variant(text)]
    grid: dict[str, list[str]] = {}
    for part in text.split(","):
        axis, equals, value = part.rpartition("=")
        if equals:
            grid.setdefault(axis.strip(), [])
        if not grid or not value.strip():
            raise UserError(f"--variant {text}: '{part}' is not axis=value")
        grid[list(grid)[-1]].append(value.strip())
    settable = [axis for axis in AXES if axis != "options"]
    for axis in grid:
        if axis not in settable:
            raise unknown("axis", axis, settable, where=f"--variant {text}")
    base = baseline.model_dump()
    variants = [
        strict.validated(Variant, base | dict(zip(grid, values, strict=True)), where=f"--variant {text}")
        for values in itertools.product(*grid.values())
    ]
    _refuse_without_effect(grid, variants, where=f"--variant {text}")
    return variants


def load_variant(name: str) -> Variant:
    """A variant by name, or from a YAML file of yours."""
    where, content = _read("variant", name)
    variant = strict.validated(Variant, content, where=where)
    _refuse_without_effect([axis for axis in AXES if axis in content], [variant], where=where)
    return variant


def _refuse_without_effect(axes: Iterable[str], variants: Sequence[Variant], *, where: str) -> None:
    """An axis that changes none of the variants it was given for is a mistake, not a wish."""
    for axis in axes:
        if not any(axis in variant.content() for variant in variants):
            others = ", ".join(f"{key}={value}" for key, value in variants[0].content().items() if key in DECIDING)
            raise UserError(f"{where}: {axis} has no effect with {others}")


def load_experiment(name: str) -> Experiment:
    """An experiment by name, or from a YAML file of yours; the file's stem is its name."""
    where, content = _read("experiment", name)
    return strict.validated(Experiment, content | {"name": Path(where).stem}, where=where)


def with_settings(experiment: Experiment, settings: Sequence[str]) -> Experiment:
    """Apply `--set key=value`, over the protocol, the backbone and the image size."""
    case_keys, protocol_keys = [*Case.model_fields, "implementation"], list(Protocol.model_fields)
    content = experiment.model_dump()
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting}: write key=value")
        if key in case_keys:
            content[key] = value
        elif key == "meters":
            content[key] = value.split(",")
        elif key in protocol_keys:
            content["protocol"][key] = value
        else:
            raise unknown("key", key, [*case_keys, "meters", *protocol_keys], where=f"--set {setting}")
    return strict.validated(Experiment, content, where="--set " + " ".join(settings))


def settings() -> dict[str, str]:
    """What `--set` takes, each with its meaning and default."""
    implementation = {"implementation": Experiment.model_fields["implementation"]}
    fields = Case.model_fields | implementation | Protocol.model_fields
    optional = {key for key, field in fields.items() if not field.is_required() and field.default is not None}
    meters = {"meters": "what is measured, as names joined by commas"}
    return meters | {
        key: f"{field.description} (default {field.default})" if key in optional else str(field.description)
        for key, field in fields.items()
    }


def known(kind: str) -> list[str]:
    """Names of the `variant`s, `experiment`s or `published` figures that come with the package."""
    folder, suffix = FILES[kind]
    return sorted(path.name.removesuffix(suffix) for path in (PACKAGE / folder).iterdir() if path.name.endswith(suffix))


def source(kind: str, name: str) -> tuple[str, Traversable]:
    """Where a packaged file is said to be, and the file."""
    folder, suffix = FILES[kind]
    return f"{folder}/{name}{suffix}", PACKAGE / folder / f"{name}{suffix}"


@cache
def code_version(operator: str) -> str:
    """Hash of the code that a measurement runs.

    For an operator of the user's own that includes the package it lies in, or, where it lies in none, every Python
    file beside it: what it imports from there changes its numbers as well.
    """
    files = [path for folder in MEASURED_CODE for path in Path(str(PACKAGE / folder)).glob("*.py")]
    if ":" in operator:
        name = operator.partition(":")[0]
        top = _module_file(name.partition(".")[0])
        if _module_file(name) is None or top is None:
            raise UserError(f"operator '{operator}': no Python module named '{name}'")
        files += top.parent.rglob("*.py") if top.name == "__init__.py" else top.parent.glob("*.py")
    return _hash(b"".join(path.name.encode() + path.read_bytes() for path in sorted(files)))


def _module_file(name: str) -> Path | None:
    try:
        module = find_spec(name)
    except (ImportError, ValueError):
        return None
    path = Path(module.origin) if module and module.origin else None
    return path if path and path.is_file() else None


def _read(kind: str, name: str) -> tuple[str, dict[str, Any]]:
    """The place and the content of a packaged YAML file, or of one that is given by its path."""
    is_path = name.endswith((".yaml", ".yml"))
    if not is_path and name not in known(kind):
        raise unknown(kind, name, known(kind))
    where, path = (name, Path(name)) if is_path else source(kind, name)
    return where, strict.read_yaml(path, where)


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else str(value)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
