"""What a meter measures: a variant built in its case, on its device, from its seed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acmix_bench import backbones, data, heads, meters, tasks
from acmix_bench.backbones.build import build, operators
from acmix_bench.errors import UserError
from acmix_bench.meters.shapes import ShapesOnly, Unwritten
from acmix_bench.ops import flex, natten
from acmix_bench.spec.cell import Cell
from acmix_bench.spec.experiment import Case
from acmix_bench.spec.meter import Meter
from acmix_bench.spec.variant import Variant
from acmix_bench.train import devices

HALF = ("bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A variant in its case; `protocol` holds what the meter reads of the protocol.

    Attributes:
        label: what its row is called.
        folder: where a long measurement keeps what it goes on from after a kill; it is there until its result is
            recorded. Scores of a sweep have one.
    """

    variant: Variant
    case: Case
    protocol: dict[str, Any]
    seed: int
    label: str = ""
    folder: Path | None = None

    @classmethod
    def of(cls, cell: Cell, folder: Path | None = None) -> Subject:
        row = cell.row
        told: dict[str, Any] = {"protocol": cell.protocol, "seed": cell.repeat, "folder": folder}
        return cls(variant=row.variant, case=row.case, label=row.label, **told)

    @cached_property
    def device(self) -> torch.device:
        """Raises UserError where it is not here."""
        return devices.found(self.protocol.get("device", "cpu"))

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.protocol.get("dtype", "float32"))
        return dtype

    @property
    def is_half(self) -> bool:
        """Whether it runs in a half type, under autocast."""
        return self.protocol.get("dtype") in HALF

    @property
    def weights(self) -> torch.dtype:
        """Of parameters and input: half types come in by autocast."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    @property
    def layout(self) -> torch.memory_format:
        """Of images and kernels in memory."""
        last = self.protocol.get("layout") == "channels-last"
        return torch.channels_last if last else torch.contiguous_format

    def as_reference(self) -> Subject:
        """The same variant with its operator straight from the formulas."""
        return replace(self, variant=self.variant.model_copy(update={"implementation": "reference"}))

    def in_torch(self) -> Subject:
        """The same variant in torch's operations where it would run in C++ or another kernel: the same everywhere."""
        if self.variant.implementation in ("native", "reference"):
            return self
        return replace(self, variant=self.variant.model_copy(update={"implementation": "production"}))

    @property
    def task(self) -> tasks.Name:
        """What it is trained to do."""
        return heads.task_of(self.case.head)

    def build(self, device: torch.device | str | None = None) -> nn.Module:
        """What is counted and timed, initialised from the seed: the model, of a dense one without what waits on values.

        Of a detector that is all but its choice among boxes, whose time depends on what it has learned.
        """
        model = self.build_to_train(device)
        return heads.as_network(model) if self.case.head else model

    def build_to_train(
        self, device: torch.device | str | None = None, start: Callable[[nn.Module], object] | None = None
    ) -> nn.Module:
        """The model as it is trained and asked, initialised from the seed.

        Args:
            start: puts weights into the classifier, of which a head for a dense task takes the stages.
        """
        torch.manual_seed(self.seed)
        shape = data.find(self.case.data)
        with torch.device("meta" if device == "meta" else "cpu"):
            model = build(
                self.case.backbone,
                self.variant,
                in_channels=shape.channels,
                num_classes=shape.classes,
                image_size=self.case.image_size,
                drop_path=self.protocol.get("drop_path", 0.0),
            )
            if start:
                start(model)
            if self.case.head:
                model = heads.built(self.case.head, model, self.case.backbone, classes=shape.classes)
        return model.to(device or self.device, self.weights).to(memory_format=self.layout)

    def hollow(self) -> nn.Module:
        """The model with parameters that are reserved and never written: enough for its shapes."""
        with Unwritten():
            return self.build("meta").to_empty(device="cpu")

    def prepare(self, model: nn.Module) -> nn.Module:
        """Compile the operators of a built model, fuse it, or compile it whole once fused, as the variant says."""
        runs = self.variant.runs
        if runs.fuses:
            from acmix_bench.backbones.fuse import fuse

            model = fuse(model)
        if runs.compiles in ("operators", "network"):
            for module in [model] if runs.compiles == "network" else operators(model):
                module.compile()
        return model

    def images(self, batch: int, device: torch.device | str | None = None) -> Tensor:
        """Random input, (batch, channels, height, width), or of a whole model of the user's (batch, *its sizes)."""
        sizes = data.sizes_of(self.case.data, self.case.input_size)
        if backbones.is_single_operator(self.case.backbone):
            sizes = (int(self.case.backbone.removeprefix("operator-")), *sizes[1:])
        place = torch.device(device or self.device)
        # Random numbers come from the CPU, so that they are the same on every device.
        drawn_on = place if place.type == "meta" else torch.device("cpu")
        images = torch.randn(batch, *sizes, device=drawn_on)
        return images.to(place, self.weights, memory_format=self.layout)

    def loss(self, output: Any, labels: Tensor) -> Tensor:
        """Cross-entropy; of an operator alone or a dense network, which have no classes, the mean square."""
        if isinstance(output, tuple):
            return torch.stack([self.loss(one, labels) for one in output]).sum()
        if output.ndim == 4 or self.case.head:
            return output.float().square().mean()
        return F.cross_entropy(output.float(), labels)

    def autocast(self) -> AbstractContextManager[Any]:
        """Half types run as they are used in practice: under autocast."""
        if self.is_half:
            return torch.autocast(self.device.type, dtype=self.dtype)
        return nullcontext()


def try_out(cell: Cell, splits: data.Splits | None = None) -> None:
    """Try a cell's shapes on the meta device, where nothing is computed (what is the user's own: on the CPU).

    Args:
        splits: its data set, where that is loaded already.

    Raises:
        UserError: for a backbone, operator, data set, device or shape that cannot be.
    """
    subject = Subject.of(cell)
    variant, case, meter = cell.row.variant, cell.row.case, meters.find(cell.meter)
    where = cell.row.label if backbones.is_whole_model(case.backbone) else f"{cell.row.label} on {case}"
    own = variant.is_own or variant.own_axes or case.backbone not in backbones.BACKBONES
    place = "cpu" if (own and not backbones.is_single_operator(case.backbone)) or variant.is_own else "meta"
    if meter.reads_data and backbones.is_single_operator(case.backbone):
        raise UserError(f"{case.backbone} has no classes to learn; measure {cell.meter} on nano")
    if not variant.runs.is_measured_by(meter):
        only = ", ".join(name for name, other in meters.METERS.items() if variant.runs.is_measured_by(other))
        raise UserError(
            f"{where}: implementation={variant.implementation} says nothing about {cell.meter}; measure {only}"
        )
    if meter.task not in ("", subject.task):
        measured = ", ".join(name for name, other in meters.METERS.items() if other.task == subject.task)
        raise UserError(
            f"{where}: {cell.meter} is of models that {meter.task}; this one is to {subject.task}: {measured}"
        )
    if meter.reads_data and (of_data := data.find(case.data).task) != subject.task:
        raise UserError(f"{where}: is to {subject.task}, and data set {case.data} is there to {of_data}")
    try:
        if meter.reads_data and splits is None:
            data.load(case.data, case.image_size, cell.protocol["data_root"])
        devices.refuse_dtype(subject.device, cell.protocol.get("dtype", "float32"))
        if reason := _refused_by_kernel(subject, meter):
            raise UserError(f"implementation={variant.implementation} does not serve this: {reason}")
        if case.head and place == "meta":
            _run_hollow(subject)
        else:
            subject.build(place)(subject.images(2, place))
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except RuntimeError as error:
        if place == "meta":
            raise UserError(f"{where}: the sizes do not fit ({str(error).splitlines()[0]})") from error
        raise


def _refused_by_kernel(subject: Subject, meter: Meter) -> str | None:
    """Why the kernel that a variant insists on does not serve a meter that runs on the device."""
    device, back_end = subject.device, {"flex": flex, "natten": natten}.get(subject.variant.implementation)
    if back_end is None or "device" not in meter.reads:
        return None
    return back_end.why_not(device.type, subject.dtype, trains=meter.trains)


def _run_hollow(subject: Subject) -> None:
    """Run the sizes of a dense network, which may sort fixed boxes by their values, as the meta device cannot."""
    model, images = subject.in_torch().hollow().eval(), subject.images(1, "cpu")
    with torch.no_grad(), ShapesOnly([*model.parameters(), *model.buffers(), images]):
        model(images)
