"""An experiment: a question, where and how its variants are measured."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from acmix_bench.errors import UserError
from acmix_bench.spec.meter import FORMER_NAMES
from acmix_bench.spec.recipe import DenseRecipe
from acmix_bench.spec.strict import Value

DEFAULT_BACKBONE = "nano"
LARGEST_IMAGE = 2**16  # pixels of an edge
# What of the protocol only an accelerator has: on the CPU it is read by no meter, and no part of a key.
ON_DEVICE = ("products", "cudnn_benchmark", "deterministic", "cache", "launch")
Size = tuple[Annotated[int, Field(ge=1, le=LARGEST_IMAGE)], Annotated[int, Field(ge=1, le=LARGEST_IMAGE)]]


class Case(Value):
    """Where a variant is measured: a backbone, its input's size, and the data set that sets channels and classes."""

    backbone: str = Field(description="where the operator stands; see Backbones")
    image_size: int = Field(
        ge=1, le=LARGEST_IMAGE, description="edge of the input in pixels; the backbone's own where not set"
    )
    data: str = Field(description="the data set; the backbone's own where not set")
    head: str = Field(
        "", description="what stands on the backbone's four stages for a dense task; its classes if not set"
    )
    size: Size | None = Field(
        None, description="height and width of the input in pixels, where they are not image_size"
    )

    def __str__(self) -> str:
        size = f"{self.size[0]}x{self.size[1]}" if self.size else str(self.image_size)
        return f"{self.backbone}{'+' * bool(self.head)}{self.head}@{size}"

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self.size or (self.image_size, self.image_size)

    def content(self) -> dict[str, Any]:
        """What is told of it in a key: what it leaves out is not there."""
        return self.model_dump(exclude_defaults=True)


class Protocol(DenseRecipe):
    """How it is measured, and for scores how it is trained: every field of the recipe."""

    device: str = Field("cpu", description="cpu, cuda, cuda:N, mps, xpu or xpu:N")
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = Field(
        "float32", description="half types run under autocast"
    )
    products: Literal["ieee", "tf32"] = Field(
        "ieee", description="float32 products and convolutions of a GPU: exact, or of operands cut to 10 bits"
    )
    cudnn_benchmark: bool = Field(False, description="cuDNN tries its algorithms for each size, and takes the fastest")
    deterministic: bool = Field(False, description="of a GPU's training: only algorithms that repeat to the last bit")
    cache: Literal["warm", "cold"] = Field(
        "warm", description="cold: a GPU's L2 cache is overwritten before every timed step"
    )
    launch: Literal["eager", "graph"] = Field(
        "eager", description="graph: a step is captured as a CUDA graph, and its replay is timed"
    )
    threads: int | None = Field(None, ge=1, description="CPU threads; all cores where not set")
    allocator: Literal["keep", "default"] = Field(
        "keep", description="keep: the process keeps all freed memory; default: large blocks go back, and fault again"
    )
    layout: Literal["contiguous", "channels-last"] = Field("contiguous", description="images and kernels in memory")
    batch: int = Field(
        32,
        ge=1,
        description="images a batch when throughput is timed, or weights are scored; halved where memory runs out",
    )
    processes: int = Field(10, ge=1, description="fresh processes in which all variants are timed alternately")
    seconds: float = Field(0.2, gt=0, description="how long a variant is timed in each process, at most")
    precision: float = Field(0.005, gt=0, description="half-width of a ratio's interval at which a process stops")
    data_root: str = Field("data", description="folder of the data sets that are not embedded")
    seeds: int = Field(5, ge=1, description="training runs a variant, each from a seed of its own")
    first_seed: int = Field(0, ge=0, lt=2**63, description="the first of these seeds; the others count up from it")
    workers: int | None = Field(None, ge=0, description="processes that read images; as many as pay where not set")
    timeout: float = Field(600.0, gt=0, description="seconds after which one cell is given up")
    memory: float | None = Field(None, gt=0, description="GiB that a cell's process may allocate; any where not set")

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, name: str) -> str:
        if not re.fullmatch(r"cpu|mps|(cuda|xpu)(:(0|[1-9]\d*))?", name):
            raise UserError(f"'{name}' is no device; write cpu, cuda, cuda:N, mps, xpu or xpu:N")
        return name

    @property
    def device_type(self) -> str:
        """The kind of device, without its number."""
        return self.device.partition(":")[0]

    @property
    def is_timed_otherwise(self) -> bool:
        """Whether timings run where float64 on the CPU says too little: on a GPU, or in half types."""
        return self.device_type != "cpu" or self.dtype in ("bfloat16", "float16")

    @model_validator(mode="after")
    def _what_a_gpu_alone_has(self) -> Protocol:
        if self.device_type != "cuda":
            for key, value in (("cache", "cold"), ("launch", "graph")):
                if getattr(self, key) == value:
                    raise UserError(f"{key}={value}: needs device=cuda, and device is {self.device}; leave it out")
        return self


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
    models: tuple[str, ...] = Field((), description="BACKBONE[-VARIANT][+HEAD][@SIZE] names, in place of variants")
    backbone: str = DEFAULT_BACKBONE
    image_size: int | None = Field(None, ge=1, le=LARGEST_IMAGE)
    data: str | None = None
    head: str = ""
    size: Size | None = Field(None, description="height and width of a dense task's input, where not image_size")
    implementation: Literal["native", "production", "flex", "natten", "reference"] | None = Field(
        None, description="run every ACmix row in this one; as each variant says where not set"
    )
    recipe: str = Field("short", description="how models are trained: a name or a YAML file")
    meters: tuple[str, ...] = Field(("params", "macs", "inference", "training", "accuracy"), min_length=1)
    columns: tuple[str, ...] = Field((), description="of its table, as NAME or NAME=title, in place of all tables")
    protocol: Protocol = Protocol()

    @field_validator("meters")
    @classmethod
    def _by_their_names_today(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(FORMER_NAMES.get(name, name) for name in names))
