"""Checkpoints as people have them: read without running their code, and renamed and reshaped to our models."""

from __future__ import annotations

import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from acmix_bench import files
from acmix_bench.backbones import saved
from acmix_bench.errors import UserError, a_few

State = dict[str, Tensor]

# Our names in a ResNet's `conv2` or a Swin's `attn`, and the released code's. Its 1x1 convolutions are linear layers
# here, and its factors of one element are scalars.
LAYER_NAMES = {
    "position": "conv_p",
    "convolution.fully_connected": "fc",
    "convolution.kernel": "dep_conv.weight",
    "mix.alpha": "rate1",
    "mix.beta": "rate2",
}
# No weights, and no surplus: what follows from a model's sizes, what thop counts, how often an average was updated.
NO_WEIGHTS = ("relative_position_index", "attn_mask", "total_ops", "total_params", "n_averaged")
COUNTER = "num_batches_tracked"  # of training steps; may be left out
WRAPPER = "_orig_mod"  # what torch.compile puts into names
# Where files keep weights, the usual names first, and moving averages of them.
USUAL = ("model", "state_dict", "model_state", "model_state_dict", "network", "net")
AVERAGE = re.compile(r"ema|average|swa|shadow", re.IGNORECASE)
DEEPEST = 4  # of a mapping in a mapping
NAME_LENGTH = 100  # of a tensor's name in a message
LEGACY_PICKLES = 5  # of a file from before torch 1.6: a number, a version, the machine, the content, its storages
# What readers say of a file that ends too early.
CUT = ("central directory", "unexpected EOF", "not fully covered", "pickle exhausted", "Ran out of input")
OTHERS = {
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself: git lfs pull",
    b"<!doctype html": "is a web page, not a checkpoint: download the file itself",
    b"<html": "is a web page, not a checkpoint: download the file itself",
}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Tensors by name, and where in the file they stood, for whoever reads it; empty where at its top."""

    state: State
    told: str = ""


def read_checkpoint(source: Path) -> Checkpoint:
    """The tensors of a .pth or .safetensors file, wherever in it they stand by name.

    Where there are several copies of about as many tensors, the weights are taken and not their moving average. What
    torch.compile puts into names is taken out. Tensors only: what else the file names becomes an inert shell, so that
    no code of it runs.

    Raises:
        UserError: where the file cannot be read, or holds no tensors.
    """
    content = _load(source)
    found = {key: state for key, state in _states(content) if not key.startswith("optim")}
    if not found:
        _refuse_objects(content, source)
        keys = f"; its keys are {_listed([str(key) for key in content])}" if isinstance(content, dict) else ""
        raise UserError(f"{source}: holds no tensors by name{keys}")
    most = max(map(len, found.values()))
    copies = [key for key, state in found.items() if 2 * len(state) >= most]
    key = min(copies, key=lambda key: (bool(AVERAGE.search(key)), _rank(key)))
    others = [f"'{other}'" for other in copies if other not in ("", key)]
    told = [f"from '{key}'"] * bool(key) + [f"not {a_few(others)}"] * bool(others)
    state = {re.sub(rf"(^|\.){WRAPPER}(?=\.)", "", name).removeprefix("."): t for name, t in found[key].items()}
    return Checkpoint(state=state, told=", ".join(told))


def released_to_ours(released: State, model: nn.Module, *, where: str, without: Collection[str] = ()) -> State:
    """Rename and reshape a checkpoint's tensors to a model's: the released code's, or those with our own names.

    Ours are torchvision's and timm's names where the model is theirs, so that their checkpoints fit too. A prefix that
    all names share, as `module.`, is taken off where that makes them fit.

    Args:
        without: names of ours that are neither read nor missed, as those of the head.

    Raises:
        UserError: naming what is surplus, missing or of another shape, as the checkpoint calls it, or not finite.
    """
    ours: State = {}
    used: set[str] = set()
    missing, wrong = [], []
    names = {name: released_names(name, is_swin=hasattr(model, "patch_embed")) for name in model.state_dict()}
    theirs = [part for parts in names.values() for part in parts]
    released = _without_prefix(released, {*names, *theirs})
    if "cls_token" in names and "stages.3.cls_token" in released:  # as this package once had it
        released["cls_token"] = released.pop("stages.3.cls_token")
    if sum(name in released for name in names) / len(names) > sum(part in released for part in theirs) / len(theirs):
        names = {name: [name] for name in names}
    for name, wanted in model.state_dict().items():
        parts = {part: released.get(part) for part in names[name]}
        used |= parts.keys()
        if name in without:
            continue
        found = [part for part in parts.values() if part is not None]
        missing += [part for part, tensor in parts.items() if tensor is None and not part.endswith(COUNTER)]
        if len(found) < len(parts):
            ours[name] = torch.zeros_like(wanted)
            continue
        sizes = (wanted.shape[0] // len(parts), *wanted.shape[1:]) if wanted.ndim else ()
        for part, tensor in parts.items():
            # Edges of 1x1 kernels, and single elements, may be left out.
            if tensor is not None and tuple(tensor.shape) not in (sizes, (*sizes, 1), (*sizes, 1, 1)):
                wrong.append((part, tuple(tensor.shape), sizes))
        if not wrong:
            ours[name] = torch.cat([part.reshape(sizes or (1,)) for part in found]).reshape(wanted.shape)
    surplus = [name for name in released if name not in used]
    if wrong and not surplus and not missing:
        _refuse_other_head(wrong, {part for name in head_of(model) for part in names[name]}, where)
    shapes = [f"{part} is {_shape(shape)} instead of {_shape(sizes)}" for part, shape, sizes in wrong]
    complaints = {"surplus": sorted(surplus), "missing": missing, "wrong shape": shapes}
    if any(complaints.values()):
        told = "; ".join(f"{what}: {_listed(found)}" for what, found in complaints.items() if found)
        raise UserError(f"{where}: does not fit the model; {told}")
    refuse_not_finite({name: released[name] for name in released if name in used}, where)
    return ours


def head_of(model: nn.Module) -> list[str]:
    """The names of the tensors of a model's last layer with weights, which is what tells its classes apart."""
    layers = [name for name, module in model.named_modules() if getattr(module, "weight", None) is not None]
    return [name for name in model.state_dict() if name.rpartition(".")[0] == layers[-1]] if layers else []


def refuse_not_finite(state: State, where: str) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        UserError: naming them.
    """
    odd = [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if odd:
        raise UserError(f"{where}: holds NaN or infinite values in {_listed(odd)}")


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


def _refuse_other_head(wrong: Sequence[tuple[str, Any, Any]], head: Collection[str], where: str) -> None:
    """Refuse weights that fit but for the number of classes."""
    if any(part not in head or not shape or not sizes or shape[1:] != sizes[1:] for part, shape, sizes in wrong):
        return
    part, shape, sizes = wrong[0]
    raise UserError(
        f"{where}: has a head of {shape[0]} classes ({part}), and the model one of {sizes[0]}; "
        "acmix-bench train --new-head trains another"
    )


def _without_prefix(state: State, known: Collection[str]) -> State:
    """Without as many parts of a prefix that all names share as let most of them be known."""
    first, *others = [name.split(".")[:-1] for name in state] or [[]]
    shared = next((i for i, part in enumerate(first) if any(o[i : i + 1] != [part] for o in others)), len(first))
    prefixes = ["".join(f"{part}." for part in first[:end]) for end in range(shared + 1)]
    prefix = max(prefixes, key=lambda prefix: sum(name.removeprefix(prefix) in known for name in state))
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def _states(content: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, State]]:
    """Every mapping in a file that holds weights by name, with where it stands."""
    if not isinstance(content, dict) or depth > DEEPEST:
        return
    state = {
        str(name): value
        for name, value in content.items()
        if isinstance(value, Tensor) and str(name).rpartition(".")[2] not in NO_WEIGHTS
    }
    if state:
        yield key, state
    for name, value in content.items():
        yield from _states(value, f"{key}.{name}" if key else str(name), depth + 1)


def _refuse_objects(content: Any, source: Path) -> None:
    """Tell a file of a model as an object, whose code would have to run."""
    for found in (content, *(content.values() if isinstance(content, dict) else ())):
        if "_parameters" in getattr(found, "__dict__", {}):
            raise UserError(f"{source}: holds a model as an object, whose code would run; save its state_dict()")


def _rank(key: str) -> int:
    return USUAL.index(key) if key in USUAL else len(USUAL)


def _load(source: Path) -> Any:
    """The content of a file, by a reader that makes nothing but tensors and plain containers.

    Raises:
        UserError: saying what the file is in place of a checkpoint, as far as that can be known.
    """
    try:
        with files.opened(source) as file:
            head = file.read(64)
        if not head:
            raise UserError(f"{source}: is an empty file")
        for start, told in OTHERS.items():
            if head.lstrip().lower().startswith(start):
                raise UserError(f"{source}: {told}")
        return load_file(source) if head[8:9] == b"{" else _load_pickled(source)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror or error})") from error
    except pickle.UnpicklingError as error:
        raise UserError(f"{source}: is not a checkpoint of torch, or holds code that is refused") from error
    except Exception as error:  # readers raise whatever a broken file leads them to
        told = str(error)
        if any(words in told for words in CUT):
            raise UserError(f"{source}: is cut short or damaged; download or copy it again") from error
        raise UserError(f"{source}: is not a checkpoint of torch ({type(error).__name__})") from error


def _load_pickled(source: Path) -> Any:
    with files.opened(source) as file:  # of a path torch would go by the suffix
        saved.refuse_bomb(file, source)
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            named = _globals_of(source)
        file.seek(0)
        shells: list[Any] = [(_InertObject if name.startswith("numpy") else _InertMapping, name) for name in named]
        with torch.serialization.safe_globals(shells):
            return torch.load(file, map_location="cpu", weights_only=True)


def _globals_of(source: Path) -> set[str]:
    """The classes and functions that a file names and torch does not know as harmless, without importing any."""
    try:
        with source.open("rb") as file:
            return set(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except ValueError:  # from before torch 1.6: one pickle after the other
        named: set[str] = set()
    with source.open("rb") as file:
        for _ in range(LEGACY_PICKLES):
            codes = pickletools.genops(file)
            named |= {str(told).replace(" ", ".") for code, told, _ in codes if code.name == "GLOBAL"}
    return {name for name in named if not name.startswith("torch.") and name != "collections.OrderedDict"}


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


def _listed(names: Sequence[str]) -> str:
    """Names on one line, cut and a few of many; of many that begin alike how, and the first."""
    lines = [" ".join(name.split()) for name in names]
    if not lines:
        return "none"
    short = [line if len(line) <= NAME_LENGTH else f"{line[:NAME_LENGTH]}..." for line in lines]
    first = short[0].partition(".")[0]
    if len(short) > 3 and all(name.startswith(f"{first}.") for name in short):
        return f"{len(short)} that begin with '{first}.', such as {short[0]}"
    return a_few(short)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape) or "a scalar"
