"""Fusing for inference: what only scales and shifts a convolution's output goes into its weights.

    alpha * attention + beta * convolution, then a BatchNorm with scale s and shift t
    = (s alpha) * attention + convolution', whose kernel is s * beta times the old one, and whose bias is t

A BatchNorm after any other convolution goes into it too. Where the operator runs in C++, its weights are brought into
the order in which they are read. The fused model keeps these weights alone: fuse a copy of a model that goes on.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import Bottleneck, ResNet

from acmix_bench.ops import ran
from acmix_bench.ops.acmix import ACmix
from acmix_bench.ops.attention import project_coordinates
from acmix_bench.ops.convolution import (
    ConvolutionPath,
    convolve_groups,
    fold,
    folds,
    gather_groups,
    shift_kernel,
)
from acmix_bench.ops.mix import Mix
from acmix_bench.ops.native import kernels
from acmix_bench.ops.native import operators as native
from acmix_bench.ops.plain import Convolution

# Where a block of a library keeps its convolutions, and the BatchNorm that follows each. A block of ours, or of yours,
# says so itself: by an attribute `followed_by_norm` of such pairs of names.
FOLLOWED = {
    ResNet: [("conv1", "bn1")],
    Bottleneck: [("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")],
    nn.Sequential: [("0", "1")],
}


class Fused(nn.Module):
    """What has taken another module's place."""

    def train(self, mode: bool = True) -> Fused:
        if mode:
            raise RuntimeError("a fused model cannot train: fuse a copy of it")
        super().train(mode)
        return self


class FusedAway(Fused):
    """A BatchNorm whose work is done in the layer before it."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class FusedPath(Fused):
    """A convolution path whose output is scaled by `factor` (C,) and shifted by `shift` (C,).

    Shifting tensors becomes the grouped convolution that does the same.
    """

    kernel: Tensor
    shift: Tensor | None

    def __init__(self, original: ConvolutionPath, factor: Tensor, shift: Tensor | None) -> None:
        super().__init__()
        self.groups, self.maps, self.stride = original.groups, original.maps, original.stride
        self.implementation = original.implementation
        layer, kernel = original.fully_connected, original.kernel
        if kernel is None:
            kernel = shift_kernel(len(factor), original.kernel_size).to(layer.weight)
        kernel = kernel * factor[:, None, None, None]
        self.folds = folds(layer.weight, layer.bias, kernel, outputs=original.outputs, stride=self.stride)
        if not self.folds:
            self.fully_connected = layer
        self.register_buffer("kernel", fold(layer.weight, kernel) if self.folds else kernel)
        self.register_buffer("shift", shift)

    def forward(self, maps: Tensor) -> Tensor:
        if self._is_native(maps):
            return self._in_cpp(maps)
        maps_BHWc = gather_groups(maps, self.maps)
        if not self.folds:
            maps_BHWc = self.fully_connected(maps_BHWc.unflatten(-1, (-1, self.maps))).flatten(-2)
        return convolve_groups(maps_BHWc, self.kernel, self.shift, stride=self.stride)

    def _is_native(self, maps: Tensor) -> bool:
        if self.implementation not in ("auto", "native") or (not self.folds and torch.is_grad_enabled()):
            return False
        return native.why_not(maps, self.groups, stride=self.stride, kernel=self.kernel.shape[-1]) is None

    def _in_cpp(self, maps: Tensor) -> Tensor:
        if self.folds:
            out = native.convolution_path(maps, self.kernel, stride=self.stride)
        else:
            layer = self.fully_connected
            out = native.connected_path(maps, layer.weight, layer.bias, self.kernel, stride=self.stride)
        return out if self.shift is None else out + self.shift


class FusedMix(Fused):
    """`factor * attended + convolution(maps)`."""

    factor: Tensor

    def __init__(self, factor: Tensor) -> None:
        super().__init__()
        self.register_buffer("factor", factor)

    def forward(self, attended: Tensor, convolution: nn.Module, maps: Tensor) -> Tensor:
        return torch.addcmul(convolution(maps), attended, self.factor.to(attended.dtype))


class FusedOperator(Fused):
    """A local operator in C++, from weights in the order in which they are read."""

    projection: Tensor
    bias: Tensor
    factor: Tensor
    path: Tensor
    shift: Tensor | None

    def __init__(self, original: ACmix, path: FusedPath, factor: Tensor) -> None:
        super().__init__()
        self.position = original.position
        self.sizes: dict[str, Any] = {"heads": original.heads, "window": original.window, "stride": original.stride}
        self.dtype = factor.dtype
        groups = len(factor) // original.heads
        lanes = kernels.lanes_of(self.dtype, groups)
        shift = path.shift
        if shift is not None:  # channels e * N + n, as vectors of groups
            shift = shift.view(groups // lanes, lanes, original.heads).transpose(1, 2).contiguous()
        self.register_buffer("bias", original.qkv.bias)
        self.register_buffer("projection", native.pack_projection(original.qkv.weight.flatten(1), lanes))
        self.register_buffer("factor", factor)
        self.register_buffer("path", kernels.pack_path(path.kernel, groups, lanes))
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        # Python's part is a twentieth of the time on a small map, where all of it comes from slow memory: so few steps.
        weights: dict[str, Any] = self._buffers
        projection = weights["projection"]
        if projection.dtype is not self.dtype:
            raise RuntimeError("a fused operator stays in the type in which it was fused: fuse again")
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(self.dtype)  # it lowers the layer before
        if torch.is_grad_enabled():
            with torch.autocast(x.device.type, enabled=False):
                ran.note("acmix_bench.local_attention")
                return self._in_parts(x)
        ran.note("acmix_bench.operator")
        return native.operator(
            x,
            projection,
            weights["bias"],
            self.position.weight,
            factor=weights["factor"],
            path=weights["path"],
            shift=weights["shift"],
            **self.sizes,
        )

    def _in_parts(self, x: Tensor) -> Tensor:
        """The same, with a gradient of its input."""
        weight = kernels.unpack_projection(self.projection, len(self.bias), self.path.shape[-1])
        qkv_BHWc = F.linear(x.permute(0, 2, 3, 1), weight, self.bias)
        out = native.convolution_path(qkv_BHWc, kernels.unpack_path(self.path), stride=self.sizes["stride"])
        if self.shift is not None:
            out = out + self.shift.transpose(1, 2).flatten()
        position = project_coordinates(self.position, *x.shape[-2:])
        attended = native.local_attention(qkv_BHWc, position, **self.sizes)
        return torch.addcmul(out, attended, self.factor).permute(0, 3, 1, 2)


def fuse(model: nn.Module) -> nn.Module:
    """Fold alpha, beta and the BatchNorm after each operator and convolution into weights, and give the fused model.

    The model is changed in place; what is given is another one where the model is an operator itself.

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
        for block in list(model.modules()):
            for name, operator in list(block.named_children()):
                if _is_fusible(operator):
                    setattr(block, name, _fused_operator(operator, None))
        return _fused_operator(model, None) if _is_fusible(model) else model


def _is_fusible(operator: nn.Module) -> bool:
    path = getattr(operator, "convolution", None)
    return isinstance(path, ConvolutionPath) and path.implementation != "reference"


def _fuse_norm(block: nn.Module, layer_name: str, norm_name: str) -> None:
    layer, norm = getattr(block, layer_name, None), getattr(block, norm_name, None)
    # A subclass may do more than its parent, such as an activation.
    if type(norm) is not nn.BatchNorm2d or norm.training or norm.running_mean is None or norm.weight is None:
        return
    if isinstance(layer, nn.Conv2d) and type(layer) in (nn.Conv2d, Convolution):
        setattr(block, layer_name, fuse_conv_bn_eval(layer, norm))
    elif layer is not None and _is_fusible(layer):
        setattr(block, layer_name, _fused_operator(layer, norm))
    else:
        return
    setattr(block, norm_name, FusedAway())


def _fused_operator(operator: nn.Module, norm: nn.BatchNorm2d | None) -> nn.Module:
    """The operator with its paths fused, or what runs it at once in C++."""
    _fuse_paths(operator, norm)
    path, mix = operator.convolution, getattr(operator, "mix", None)
    if not (isinstance(operator, ACmix) and isinstance(mix, FusedMix) and isinstance(path, FusedPath) and path.folds):
        return operator
    if operator.implementation not in ("auto", "native"):
        return operator
    sizes = {"stride": operator.stride, "window": operator.window, "kernel": path.kernel.shape[-1]}
    if native.why_not(path.kernel, operator.channels // operator.heads, **sizes):
        return operator
    return FusedOperator(operator, path, mix.factor)


def _fuse_paths(operator: nn.Module, norm: nn.BatchNorm2d | None) -> None:
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
        operator.mix = FusedMix(alpha.to(weight) * scale)  # type: ignore[union-attr]
