"""Fusing for inference: what only scales and shifts a convolution's output goes into its weights.

    alpha * attention + beta * convolution, then a BatchNorm with scale s and shift t
    = (s alpha) * attention + convolution', whose kernel is s * beta times the old one, and whose bias is t

A BatchNorm after any other convolution goes into it too. `unfuse` gives the model back as it was, to the last bit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import Bottleneck, ResNet

from acmix_bench.ops.convolution import (
    ConvolutionPath,
    convolve_groups,
    fold,
    folding_pays,
    gather_groups,
    shift_kernel,
)
from acmix_bench.ops.mix import Mix
from acmix_bench.ops.plain import Convolution

# Where a block of a library keeps its convolutions, and the BatchNorm that follows each. A block of ours, or of yours,
# says so itself: by an attribute `followed_by_norm` of such pairs of names.
FOLLOWED = {
    ResNet: [("conv1", "bn1")],
    Bottleneck: [("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")],
    nn.Sequential: [("0", "1")],
}


class Fused(nn.Module):
    """Stands in for a module that `unfuse` puts back."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.original = original

    def train(self, mode: bool = True) -> Fused:
        if mode:
            raise RuntimeError("a fused model cannot train: call unfuse(model) first")
        super().train(mode)
        return self


class FusedAway(Fused):
    """A BatchNorm whose work is done in the layer before it."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class FusedConvolution(Fused):
    """A convolution with the BatchNorm that follows it."""

    def __init__(self, original: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__(original)
        self.convolution = fuse_conv_bn_eval(original, norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x)


class FusedPath(Fused):
    """A convolution path whose output is scaled by `factor` (C,) and shifted by `shift` (C,).

    Shifting tensors becomes the grouped convolution that does the same.
    """

    kernel: Tensor
    shift: Tensor | None

    def __init__(self, original: ConvolutionPath, factor: Tensor, shift: Tensor | None) -> None:
        super().__init__(original)
        layer, outputs = original.fully_connected, original.outputs
        kernel = original.kernel
        if kernel is None:
            kernel = shift_kernel(len(factor), original.kernel_size).to(layer.weight)
        kernel = kernel * factor[:, None, None, None]
        pays = folding_pays(original.maps, outputs, original.kernel_size, original.stride)
        self.folded = layer.bias is None and pays
        self.register_buffer("kernel", fold(layer.weight, kernel) if self.folded else kernel)
        self.register_buffer("shift", shift)

    def forward(self, maps: Tensor) -> Tensor:
        path: ConvolutionPath = self.original  # type: ignore[assignment]
        maps_BHWc = gather_groups(maps, path.maps)
        if not self.folded:
            maps_BHWc = path.fully_connected(maps_BHWc.unflatten(-1, (-1, path.maps))).flatten(-2)
        return convolve_groups(maps_BHWc, self.kernel, self.shift, stride=path.stride)


class FusedMix(Fused):
    """`factor * attended + convolution(maps)`."""

    factor: Tensor

    def __init__(self, original: Mix, factor: Tensor) -> None:
        super().__init__(original)
        self.register_buffer("factor", factor)

    def forward(self, attended: Tensor, convolution: nn.Module, maps: Tensor) -> Tensor:
        return torch.addcmul(convolution(maps), attended, self.factor.to(attended.dtype))


def fuse(model: nn.Module) -> None:
    """Fold alpha, beta and the BatchNorm after each operator and convolution into weights, in place.

    Outputs stay equal to 1e-5 relative. Operators written as the reference, and those without a convolution path, stay
    as they are, and so does a norm that trains or keeps no statistics.

    Raises:
        RuntimeError: for a model in training mode.
    """
    if model.training:
        raise RuntimeError("fusing is for inference: call model.eval() first")
    with torch.no_grad():
        for block in list(model.modules()):
            for layer_name, norm_name in vars(type(block)).get("followed_by_norm") or FOLLOWED.get(type(block), []):
                _fuse_norm(block, layer_name, norm_name)
        for operator in list(model.modules()):
            if _is_fusible(operator):
                _fuse_operator(operator, None)


def unfuse(model: nn.Module) -> None:
    """Undo `fuse`."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, Fused):
                setattr(module, name, child.original)


def _is_fusible(operator: nn.Module) -> bool:
    path = getattr(operator, "convolution", None)
    return isinstance(path, ConvolutionPath) and path.implementation == "production"


def _fuse_norm(block: nn.Module, layer_name: str, norm_name: str) -> None:
    layer, norm = getattr(block, layer_name, None), getattr(block, norm_name, None)
    # A subclass may do more than its parent, such as an activation.
    if type(norm) is not nn.BatchNorm2d or norm.training or norm.running_mean is None or norm.weight is None:
        return
    if isinstance(layer, nn.Conv2d) and type(layer) in (nn.Conv2d, Convolution):
        setattr(block, layer_name, FusedConvolution(layer, norm))
    elif layer is not None and _is_fusible(layer):
        _fuse_operator(layer, norm)
    else:
        return
    setattr(block, norm_name, FusedAway(norm))


def _fuse_operator(operator: nn.Module, norm: nn.BatchNorm2d | None) -> None:
    path: ConvolutionPath = operator.convolution  # type: ignore[assignment]
    mix: Mix | None = getattr(operator, "mix", None)
    weight = path.fully_connected.weight
    scale, shift = weight.new_ones(path.groups * path.outputs), None
    if norm is not None:
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        scale = norm.weight / (variance + norm.eps).sqrt()
        shift = norm.bias - mean * scale
    alpha, beta = mix.weights() if mix else (None, torch.ones(()))
    operator.convolution = FusedPath(path, beta.to(weight) * scale, shift)
    if mix:
        operator.mix = FusedMix(mix, alpha.to(weight) * scale)  # type: ignore[union-attr]
