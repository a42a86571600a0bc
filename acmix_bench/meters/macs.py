"""Multiply-adds of one image: the closed form by stage, and beside it what two counters say.

The counters run the reference implementation, because it is how such operators are written in released code. Both
know matrix products and convolutions only; products that are written as multiply-and-sum count as nothing.
"""

from __future__ import annotations

import logging
import operator
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import cache
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from acmix_bench.errors import UserError, unknown
from acmix_bench.meters.ledger import MOVES, keep
from acmix_bench.meters.shapes import ShapesOnly, traced_shapes
from acmix_bench.meters.subject import Subject
from acmix_bench.ops.cost import STAGES

with warnings.catch_warnings():
    # fvcore imports torch.jit.script, which newer torch marks as deprecated; we count with its tracer alone.
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*torch.jit")
    from fvcore.nn import FlopCountAnalysis

# The literal model, the model as it runs, and an image, to what is counted.
Count = Callable[[nn.Module, nn.Module, Tensor], dict[str, Any]]
Shapes = Callable[[Iterable[Tensor]], AbstractContextManager[Any]]

# Modules that cost nothing by the field's convention, by library and class: none multiplies by weights and adds.
FREE = {
    *(f"torch.{name}" for name in ("BatchNorm2d", "LayerNorm", "ReLU", "GELU", "Softmax", "Identity", "Dropout")),
    *(f"torch.{name}" for name in ("Flatten", "MaxPool2d", "AdaptiveAvgPool2d", "GroupNorm", "Dropout2d", "Upsample")),
    *(f"timm.{name}" for name in ("DropPath", "FastAdaptiveAvgPool")),
    *(f"torchvision.{name}" for name in ("LastLevelMaxPool", "MultiScaleRoIAlign")),
    "acmix_bench.AsTheyAre",
}
# Modules whose own forward multiplies nothing beside its layers, by library and class, and all of this package. Any
# other may: nn.MultiheadAttention does.
WRITTEN_OUT = {
    *(f"torch.{name}" for name in ("Sequential", "ModuleList", "ModuleDict")),
    *(f"torchvision.{name}" for name in ("Bottleneck", "BasicBlock", "ResNet", "Conv2dNormActivation")),
    *(f"torchvision.{name}" for name in ("FeaturePyramidNetwork", "LastLevelP6P7", "RPNHead", "TwoMLPHead")),
    *(f"torchvision.{name}" for name in ("FastRCNNPredictor", "MaskRCNNHeads", "MaskRCNNPredictor", "RetinaNetHead")),
    "torchvision.FastRCNNConvFCHead",
    *(f"torchvision.{name}" for name in ("RetinaNetClassificationHead", "RetinaNetRegressionHead")),
    *(f"segmentation_models_pytorch.{name}" for name in ("UPerNetDecoder", "PSPModule", "FPNLateralBlock")),
    "segmentation_models_pytorch.Conv2dReLU",
    *(f"timm.{name}" for name in ("ClassifierHead", "Mlp", "PatchEmbed", "PatchMerging", "SelectAdaptivePool2d")),
    *(f"timm.{name}" for name in ("SwinTransformer", "SwinTransformerBlock", "SwinTransformerStage")),
}
# fvcore also counts normalisation and pooling, which the papers do not.
MULTIPLY_ADDS = ("conv", "linear", "addmm", "mm", "bmm", "baddbmm", "matmul", "einsum")


def measure(subject: Subject) -> dict[str, Any]:
    """MACs of one image by stage and layer, and each counter's total with what it left out."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operation of torch's own, in which nobody sees the products
    try:
        return _counted(subject)
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _counted(subject: Subject) -> dict[str, Any]:
    count_by = _counter_of(subject)
    counted = count_by(count_closed_form, ShapesOnly)
    counters: dict[str, tuple[Count, Shapes]] = {
        "count_with_fvcore": (lambda literal, _, image: count_with_fvcore(literal, image), traced_shapes),
        "count_with_flop_counter": (lambda literal, _, image: count_with_flop_counter(literal, image), ShapesOnly),
        "count_with_ledger": (count_with_ledger, ShapesOnly),
    }
    for name, (count, shapes) in counters.items():
        try:
            counted |= count_by(count, shapes)
        except Exception as error:  # noqa: BLE001 - what a counter cannot trace must not cost the closed form
            told = (str(error).splitlines() or [""])[0]
            counted[f"{name}_failed"] = {f"{type(error).__name__}: {told}": 1}
    return counted


def _counter_of(subject: Subject) -> Callable[[Count, Shapes], dict[str, Any]]:
    """Counts by shapes, where nothing is computed; of a model that looks at values, by running it."""
    subject, literal, image = subject.in_torch(), subject.as_reference(), subject.images(1, "cpu")

    @cache
    def hollow() -> tuple[nn.Module, nn.Module]:
        return literal.hollow().eval(), subject.hollow().eval()

    def count_by(count: Count, shapes: Shapes) -> dict[str, Any]:
        try:
            models = hollow()
            weights = (tensor for model in models for tensor in (*model.parameters(), *model.buffers()))
            with shapes([*weights, image]):
                return count(*models, image)
        except UserError:
            raise
        except Exception:  # noqa: BLE001 - a user's code may do anything with values
            return count(literal.build("cpu").eval(), subject.build("cpu").eval(), image)

    return count_by


def total_macs(subject: Subject) -> int:
    """MACs of one image from the closed form."""
    macs: int = _counter_of(subject)(count_closed_form, ShapesOnly)["macs"]
    return macs


def count_closed_form(literal: nn.Module, model: nn.Module, image: Tensor) -> dict[str, Any]:
    """The model's own formulas, by stage and by layer."""
    layers, unlisted = count_layers(model, image)
    stages = {stage: sum(layer["macs"][stage] for layer in layers) for stage in STAGES}
    return {"macs": sum(stages.values()), "macs_by_stage": stages, "layers": layers, "no_formula": unlisted}


def count_layers(model: nn.Module, image: Tensor) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Run the model once and take every layer's cost from its own formula.

    Returns:
        One entry a layer that multiplies, and the modules that have no formula, with how often they ran.
    """
    layers: list[dict[str, Any]] = []
    unlisted: Counter[str] = Counter()
    hooks = []

    def visit(name: str, module: nn.Module) -> None:
        if hasattr(module, "macs"):
            hooks.append(module.register_forward_hook(lambda m, args, _: add(name, m, own_formula(m, args))))
        elif type(module) in (nn.Conv2d, nn.Linear, nn.ConvTranspose2d):
            hooks.append(
                module.register_forward_hook(lambda m, args, out: add(name, m, {"rest": _linear_macs(m, args[0], out)}))
            )
        elif _qualified(module) == "timm.WindowAttention":
            hooks.append(module.register_forward_hook(lambda m, args, _: add(name, m, _window_attention_macs(args[0]))))
        elif any(True for _ in module.children()):
            if _qualified(module) not in WRITTEN_OUT and not _qualified(module).startswith("acmix_bench."):
                hooks.append(
                    module.register_forward_hook(
                        lambda m, *_: unlisted.update([f"{type(m).__name__} beside its layers"])
                    )
                )
            for child_name, child in module.named_children():
                visit(f"{name}.{child_name}" if name else child_name, child)
        elif _qualified(module) not in FREE:
            hooks.append(module.register_forward_hook(lambda m, *_: unlisted.update([type(m).__name__])))

    def add(name: str, module: nn.Module, macs: dict[str, int]) -> None:
        parameters = sum(p.numel() for p in module.parameters())
        entry = {"name": name, "type": type(module).__name__, "parameters": parameters}
        layers.append({**entry, "macs": dict.fromkeys(STAGES, 0) | macs})

    visit("", model)
    with torch.inference_mode():
        model(image)
    for hook in hooks:
        hook.remove()
    return layers, dict(unlisted)


def _linear_macs(module: nn.Conv2d | nn.Linear | nn.ConvTranspose2d, x: Tensor, out: Tensor) -> int:
    """Every weight is used once for each output position, of a transposed convolution for each of the input.

    Positions are those of the one image that the model gets, be it cut into windows or regions.
    """
    counted = x if isinstance(module, nn.ConvTranspose2d) else out
    channels = counted.shape[-1] if isinstance(module, nn.Linear) else counted.shape[1]
    return module.weight.numel() * (counted.numel() // channels)


def own_formula(module: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, int]:
    """What a module's own `macs` says, in plain integers.

    Raises:
        UserError: where that is no mapping of stages to whole numbers.
    """
    formula: Callable[..., Any] = getattr(module, "macs")  # noqa: B009 - nn.Module types it as a tensor
    where, macs = f"{type(module).__name__}.macs", formula(*inputs)
    if not isinstance(macs, Mapping):
        raise UserError(f"{where}: must give a dict of multiply-adds by stage, and gave {macs!r:.60}")
    counted = {}
    for stage, number in macs.items():
        if stage not in STAGES:
            raise unknown("stage", str(stage), STAGES, where=where)
        try:
            counted[stage] = operator.index(number)
        except TypeError:
            counted[stage] = -1
        if counted[stage] < 0 or isinstance(number, bool):
            raise UserError(f"{where}: multiply-adds must be whole numbers, and {stage} is {number!r:.60}")
    return counted


def _window_attention_macs(x: Tensor) -> dict[str, int]:
    """timm's window attention on the windows (V, L, C) of one image: projections, products, output projection."""
    windows, pixels, channels = x.shape
    tokens = windows * pixels
    return {
        "stage_1": 3 * tokens * channels**2,
        "attention": 2 * tokens * pixels * channels,
        "rest": tokens * channels**2,
    }


def _qualified(module: nn.Module) -> str:
    """Its library and its class."""
    return f"{type(module).__module__.partition('.')[0]}.{type(module).__name__}"


def count_with_fvcore(model: nn.Module, image: Tensor) -> dict[str, Any]:
    """What fvcore's FlopCountAnalysis counts (it calls one multiply-add one flop), and what it does not."""
    if not getattr(model, "can_be_traced", True):
        raise UserError("it cuts out regions by their values, which a tracer cannot follow")
    logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)
    analysis = FlopCountAnalysis(model, image)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    by_operation = {op: int(flops) for op, flops in analysis.by_operator().items()}
    macs = sum(flops for op, flops in by_operation.items() if op in MULTIPLY_ADDS)
    return {
        "fvcore": macs,
        "fvcore_not_counted": dict(analysis.unsupported_ops()),
        "fvcore_version": version("fvcore"),
    }


def count_with_flop_counter(model: nn.Module, image: Tensor) -> dict[str, Any]:
    """What torch's FlopCounterMode counts (two flops a multiply-add, halved here), and what it does not."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter, _SeenOperations() as seen:
        model(image)
    return {"flop_counter": counter.get_total_flops() // 2, "flop_counter_not_counted": dict(seen.uncounted)}


def count_with_ledger(literal: nn.Module, model: nn.Module, image: Tensor) -> dict[str, Any]:
    """What the ledger finds: the algorithm's multiply-adds in the literal model, and what the model itself executes.

    Beside its backward pass, what FlopCounterMode says of that.
    """
    counter = FlopCounterMode(display=False)
    algorithm, executed = keep(literal, image), keep(model, image)
    backward = keep(model, image, backward=True, beside=counter)
    books = (algorithm, executed, backward)
    return {
        "ledger": algorithm.macs,
        "ledger_by_operation": dict(algorithm.counted + algorithm.formula),
        "macs_executed": executed.macs,
        "macs_executed_by_operation": dict(executed.counted + executed.formula),
        "macs_backward": backward.macs,
        "flop_counter_backward": counter.get_total_flops() // 2,
        "activations": executed.activations,
        "activation_bytes": executed.activations * image.element_size(),
        "parameter_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
        "zero_by_convention": dict(algorithm.zero + executed.zero + backward.zero),
        "unknown": dict(sum((book.unknown for book in books), Counter[str]())),
    }


class _SeenOperations(TorchDispatchMode):
    """Counts the calls of operations that compute, and that FlopCounterMode has no formula for."""

    def __init__(self) -> None:
        super().__init__()
        self.uncounted: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        name = packet.__name__
        if packet not in flop_registry and name not in MOVES and not func.is_view:
            self.uncounted[f"aten::{name}"] += 1
        return func(*args, **(kwargs or {}))
