"""The authors' released weights, read into our models, and what a model with weights says of an image."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights
from torchvision.transforms import v2 as transforms

from acmix_bench import backbones
from acmix_bench.backbones.build import build as build_backbone
from acmix_bench.data.folders import still_size, to_input
from acmix_bench.errors import UserError, a_few

State = dict[str, Tensor]
CLASSES: list[str] = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]

# Our names in a ResNet's `conv2` or a Swin's `attn`, and the released code's. Its 1x1 convolutions are linear layers
# here, and its factors of one element are scalars.
LAYER_NAMES = {
    "position": "conv_p",
    "convolution.fully_connected": "fc",
    "convolution.kernel": "dep_conv.weight",
    "mix.alpha": "rate1",
    "mix.beta": "rate2",
}
# What follows from a model's sizes, or counts training steps: not needed, and no surplus.
DERIVED = ("relative_position_index", "attn_mask")
COUNTER = "num_batches_tracked"


def import_weights(source: Path, model_name: str, destination: Path) -> int:
    """Turn a released checkpoint into a safetensors file of our names, and count its tensors.

    Nothing is written unless every tensor of the model is there, none is left over, and all have the right shape.

    Raises:
        UserError: for a file that cannot be read, or that does not fit the model, naming what does not.
    """
    state = released_to_ours(read_checkpoint(source), build(model_name), where=str(source))
    unfinished = destination.with_name(f".{destination.name}.unfinished")
    try:
        save_file(
            {name: tensor.clone().contiguous() for name, tensor in state.items()}, unfinished, {"model": model_name}
        )
        unfinished.replace(destination)
    except (OSError, SafetensorError) as error:
        unfinished.unlink(missing_ok=True)
        raise UserError(f"{destination}: cannot be written ({error})") from error
    return len(state)


def predict(model_name: str, weights: Path, images: list[Path], *, top: int = 5) -> list[list[tuple[str, float]]]:
    """The most likely ImageNet classes of each image, with their probabilities.

    Raises:
        UserError: for weights or an image that cannot be read, or weights of another model.
    """
    model = build(model_name)
    try:
        with safe_open(weights, "pt") as file:
            made_for = (file.metadata() or {}).get("model", model_name)
        state = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{weights}: cannot be read as safetensors ({error})") from error
    if made_for != model_name:
        raise UserError(f"{weights}: holds weights of {made_for}, not of {model_name}")
    wanted = model.state_dict()
    if {name: t.shape for name, t in state.items()} != {name: t.shape for name, t in wanted.items()}:
        raise UserError(f"{weights}: does not fit {model_name}; import the checkpoint again")
    model.load_state_dict(state)
    prepare = transforms.Compose([*still_size(backbones.find_model(model_name).case.image_size), *to_input()])
    batch = torch.stack([prepare(_open(path)) for path in images])
    with torch.inference_mode():
        best = model.eval()(batch).softmax(-1).topk(top)
    return [
        [(CLASSES[index], probability) for index, probability in zip(indices, values, strict=True)]
        for indices, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def build(model_name: str) -> nn.Module:
    """A model by name for ImageNet's 1000 classes.

    Raises:
        UserError: for an unknown name, or an operator alone, which has no classes.
    """
    row = backbones.find_model(model_name)
    if backbones.is_single_operator(row.case.backbone):
        raise UserError(f"{model_name} is an operator alone; it has no classes")
    size = row.case.image_size
    return build_backbone(row.case.backbone, row.variant, in_channels=3, num_classes=1000, image_size=size)


def read_checkpoint(source: Path) -> State:
    """The tensors of a .pth or .safetensors file, also below `model` or `state_dict`, and with `module.` in front.

    Tensors only: what else the file names becomes an inert shell, so that no code of it runs.

    Raises:
        UserError: where the file cannot be read, or holds no tensors.
    """
    try:
        content = _load(source)
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror})") from error
    except pickle.UnpicklingError as error:
        raise UserError(f"{source}: is not a checkpoint of torch, or holds code that is refused") from error
    except (RuntimeError, ValueError, EOFError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"{source}: is not a checkpoint of torch ({type(error).__name__})") from error
    for nest in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(nest), dict):
            content = content[nest]
    entries = content.items() if isinstance(content, dict) else ()
    state = {str(name): tensor for name, tensor in entries if isinstance(tensor, Tensor)}
    if not state:
        raise UserError(f"{source}: holds no tensors by name")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return {name: tensor for name, tensor in state.items() if name.rpartition(".")[2] not in DERIVED}


def released_to_ours(released: State, model: nn.Module, *, where: str) -> State:
    """Rename and reshape a checkpoint's tensors to a model's: the released code's, or those with our own names.

    Ours are torchvision's and timm's names where the model is theirs, so that their checkpoints fit too.

    Raises:
        UserError: naming what is missing, surplus or of another shape, as the checkpoint calls it.
    """
    ours: State = {}
    used: set[str] = set()
    missing, wrong = [], []
    names = {name: released_names(name, is_swin=hasattr(model, "patch_embed")) for name in model.state_dict()}
    theirs = [part for parts in names.values() for part in parts]
    if sum(name in released for name in names) / len(names) > sum(part in released for part in theirs) / len(theirs):
        names = {name: [name] for name in names}
    for name, wanted in model.state_dict().items():
        parts = {part: released.get(part) for part in names[name]}
        used |= parts.keys()
        found = [part for part in parts.values() if part is not None]
        missing += [part for part, tensor in parts.items() if tensor is None and not part.endswith(COUNTER)]
        if len(found) < len(parts):
            ours[name] = torch.zeros_like(wanted)
            continue
        sizes = (wanted.shape[0] // len(parts), *wanted.shape[1:]) if wanted.ndim else ()
        for part, tensor in parts.items():
            # Edges of 1x1 kernels, and single elements, may be left out.
            if tensor is not None and tuple(tensor.shape) not in (sizes, (*sizes, 1), (*sizes, 1, 1)):
                wrong.append(f"{part} is {_shape(tuple(tensor.shape))} instead of {_shape(sizes)}")
        if not wrong:
            ours[name] = torch.cat([part.reshape(sizes or (1,)) for part in found]).reshape(wanted.shape)
    complaints = {"missing": missing, "surplus": sorted(released.keys() - used), "wrong shape": wrong}
    if any(complaints.values()):
        told = "; ".join(f"{what}: {a_few(found)}" for what, found in complaints.items() if found)
        raise UserError(f"{where}: does not fit the model; {told}")
    return ours


def released_names(name: str, *, is_swin: bool) -> list[str]:
    """What the released code calls one of our tensors; several where ours is several of its, one after another.

    ResNet: our one projection is its three. Swin: it keeps each stage's merging at its end, timm at the beginning of
    the next.
    """
    layer = re.fullmatch(r"(.*\.(?:conv2|attn))\.(.+)", name)
    if layer and layer[1].endswith("conv2") and layer[2].startswith("qkv."):
        return [f"{layer[1]}.{layer[2].replace('qkv', f'conv{number}')}" for number in (1, 2, 3)]
    if layer:
        for our, theirs in LAYER_NAMES.items():
            if layer[2] == our or layer[2].startswith(f"{our}."):
                return [f"{layer[1]}.{theirs}{layer[2].removeprefix(our)}"]
    merging = re.fullmatch(r"layers\.(\d+)\.downsample\.(.+)", name) if is_swin else None
    if merging:
        return [f"layers.{int(merging[1]) - 1}.downsample.{merging[2]}"]
    return [name.replace("head.fc.", "head.")] if is_swin else [name]


def _load(source: Path) -> Any:
    """The content of a file, by a reader that makes nothing but tensors and plain containers."""
    if source.suffix == ".safetensors":
        try:
            return load_file(source)
        except SafetensorError as error:
            raise ValueError(str(error)) from error
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(source)
    shells: list[Any] = [(_InertObject if name.startswith("numpy") else _InertMapping, name) for name in named]
    with torch.serialization.safe_globals(shells):
        return torch.load(source, map_location="cpu", weights_only=True)


class _InertMapping:
    """Stands for every class and function that a checkpoint names: called, it is an empty mapping, and nothing runs."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


class _InertObject:
    """The same for numpy's values, which are no mappings."""

    def __init__(self, *_: Any, **__: Any) -> None:
        return

    def __setstate__(self, _: Any) -> None:
        return


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape) or "a scalar"


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or "no image, or a broken or far too large one"
        raise UserError(f"{path}: cannot be read ({reason})") from error
