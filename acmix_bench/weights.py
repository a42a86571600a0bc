"""The authors' released weights, read into our models, and what a model with weights says of an image."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights
from torchvision.transforms import v2 as transforms

from acmix_bench import backbones
from acmix_bench.data.folders import still_size, to_input
from acmix_bench.errors import UserError

State = dict[str, Tensor]
CLASSES: list[str] = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]

# The released code's names in a ResNet's `conv2` and a Swin's `attn`, and ours. Shapes follow from ours.
LAYER_NAMES = {
    "conv_p.weight": "position.weight",
    "conv_p.bias": "position.bias",
    "fc.weight": "convolution.fully_connected.weight",
    "fc.bias": "convolution.fully_connected.bias",
    "dep_conv.weight": "convolution.kernel",
    "rate1": "mix.alpha",
    "rate2": "mix.beta",
}
# Buffers that the released Swin stores and that follow from the model's sizes.
DERIVED = ("relative_position_index", "attn_mask")


class _Inert:
    """Stands for every class and function that a checkpoint names: called, it is an empty mapping, and nothing runs."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


def import_weights(source: Path, model_name: str, destination: Path) -> int:
    """Turn a released checkpoint into a safetensors file of our names, and count its tensors.

    Nothing is written unless every tensor of the model is there, none is left over, and all have the right shape.

    Raises:
        UserError: for a file that cannot be read, or that does not fit the model, saying what does not.
    """
    model = build(model_name)
    state = released_to_ours(read_checkpoint(source))
    fit(model, state, where=str(source))
    unfinished = destination.with_name(f".{destination.name}.unfinished")
    try:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, unfinished, {"model": model_name})
        unfinished.replace(destination)
    except OSError as error:
        raise UserError(f"{destination}: cannot be written ({error.strerror})") from error
    return len(state)


def predict(model_name: str, weights: Path, images: list[Path], *, top: int = 5) -> list[list[tuple[str, float]]]:
    """The most likely ImageNet classes of each image, with their probabilities.

    Raises:
        UserError: for weights or an image that cannot be read, or weights of another model.
    """
    model = build(model_name)
    try:
        state = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{weights}: cannot be read as safetensors ({error})") from error
    fit(model, state, where=str(weights))
    size = backbones.find_model(model_name).case.image_size
    prepare = transforms.Compose([*still_size(size), *to_input()])
    batch = torch.stack([prepare(_open(path)) for path in images])
    with torch.inference_mode():
        probabilities = model.eval()(batch).softmax(-1)
    best = probabilities.topk(top)
    return [
        [(CLASSES[index], probability) for index, probability in zip(indices, values, strict=True)]
        for indices, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def build(model_name: str) -> nn.Module:
    """A model by name for ImageNet's 1000 classes."""
    row = backbones.find_model(model_name)
    size = row.case.image_size
    return backbones.build(row.case.backbone, row.variant, in_channels=3, num_classes=1000, image_size=size)


def read_checkpoint(source: Path) -> State:
    """The tensors of a .pth file, also nested under `model` or `state_dict` and with `module.` in front.

    Tensors only: what else the file names becomes an inert shell, so that no code of it runs.

    Raises:
        UserError: where the file cannot be read, or holds no tensors.
    """
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(source)
        with torch.serialization.safe_globals([(_Inert, name) for name in named]):
            content = torch.load(source, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror})") from error
    except pickle.UnpicklingError as error:
        raise UserError(f"{source}: is not a checkpoint of torch, or holds code that is refused") from error
    except (RuntimeError, ValueError, EOFError) as error:
        raise UserError(f"{source}: is not a checkpoint of torch ({str(error).splitlines()[0]})") from error
    for nest in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(nest), dict):
            content = content[nest]
    state = {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)} if content else {}
    if not state:
        raise UserError(f"{source}: holds no tensors")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def released_to_ours(state: State) -> State:
    """Rename and reshape the released code's tensors; what needs neither stays as it is.

    ResNet: the three projections of a layer become one. Swin: the released code keeps each stage's merging at its end,
    timm at the beginning of the next.
    """
    ours: State = {}
    for name, tensor in state.items():
        if name.rpartition(".")[2] in DERIVED:
            continue
        layer = re.fullmatch(r"(.*?\.(?:conv2|attn))\.(\w+(?:\.\w+)?)", name)
        if layer and layer[2] in LAYER_NAMES:
            new = LAYER_NAMES[layer[2]]
            ours[f"{layer[1]}.{new}"] = tensor.reshape(_squeezed(new, tensor))
        elif layer and re.fullmatch(r"conv[123]\.(weight|bias)", layer[2]):
            kind = layer[2].partition(".")[2]
            parts = [state.get(f"{layer[1]}.conv{number}.{kind}") for number in (1, 2, 3)]
            if all(part is not None for part in parts):
                ours[f"{layer[1]}.qkv.{kind}"] = torch.cat([part for part in parts if part is not None])
            else:
                ours[name] = tensor
        elif merging := re.fullmatch(r"layers\.(\d+)\.downsample\.(.+)", name):
            ours[f"layers.{int(merging[1]) + 1}.downsample.{merging[2]}"] = tensor
        elif name in ("head.weight", "head.bias") and "layers.0.blocks.0.norm1.weight" in state:
            ours[name.replace("head.", "head.fc.")] = tensor
        else:
            ours[name] = tensor
    return ours


def fit(model: nn.Module, state: State, *, where: str) -> None:
    """Load a state that fits exactly.

    Raises:
        UserError: naming what is missing, surplus or of another shape.
    """
    wanted = model.state_dict()
    wrong = [
        f"{name} is {_shape(state[name])} instead of {_shape(wanted[name])}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    complaints = [
        _some("missing", [name for name in wanted if name not in state]),
        _some("surplus", [name for name in state if name not in wanted]),
        _some("wrong shape", wrong),
    ]
    if any(complaints):
        raise UserError(f"{where}: does not fit the model; {'; '.join(filter(None, complaints))}")
    model.load_state_dict(state)


def _squeezed(name: str, tensor: Tensor) -> tuple[int, ...]:
    """1x1 convolutions are linear layers here, and the two factors are scalars."""
    if name.startswith("mix."):
        return () if tensor.numel() == 1 else tuple(tensor.shape)
    is_kernel = name == "convolution.kernel"
    return tuple(tensor.shape) if is_kernel or tensor.shape[2:] != (1, 1) else tuple(tensor.shape[:2])


def _some(what: str, names: list[str], *, shown: int = 8) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{what}: {', '.join(names[:shown])}{more}" if names else ""


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "a scalar"


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path).convert("RGB")
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: is not an image that can be read") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
