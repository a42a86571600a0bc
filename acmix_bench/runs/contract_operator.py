"""What an operator promises: shapes, gradients, types, layouts, determinism, and the cost that it states."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from acmix_bench import ops
from acmix_bench.backbones.build import operator_of
from acmix_bench.errors import unknown
from acmix_bench.meters.ledger import keep
from acmix_bench.meters.macs import own_formula
from acmix_bench.runs.contract import Broken, NotPromised, Promise, tried
from acmix_bench.spec import library

CLOSE = {torch.bfloat16: 0.1, torch.float16: 0.02, torch.float64: 1e-4}  # to float32, relative to the largest value
# A backbone of each attention, which gives the operator its arguments.
BACKBONE = {"local": "nano", "window": "swin-t", "patchwise": "san10", "global": "pvt-t"}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One way to make and to call an operator: constructor arguments, input and output shape without the batch."""

    sizes: tuple[Any, ...]
    more: dict[str, Any]
    shape: tuple[int, ...]
    result: tuple[int, ...]
    call: tuple[Any, ...] = ()


def _local(height: int, width: int, stride: int) -> Trial:
    result = (32, -(-height // stride), -(-width // stride))
    return Trial(sizes=(16, 32), more={"stride": stride}, shape=(16, height, width), result=result)


def _window(height: int, width: int, shift: int = 0) -> Trial:
    shape = (height, width, 32)
    return Trial(sizes=(32, 2, (7, 7)), more={}, shape=shape, result=shape, call=((shift, shift),))


def _patchwise(height: int, width: int) -> Trial:
    more = {"relation": "patchwise"}
    return Trial(sizes=(64, 3), more=more, shape=(64, height, width), result=(16, height, width))


def _global(height: int, width: int, reduction: int, extra: int = 0) -> Trial:
    tokens = height * width + extra
    return Trial(sizes=(32, 2, reduction), more={}, shape=(tokens, 32), result=(tokens, 32), call=(height, width))


# The first is the usual one.
TRIALS: dict[str, dict[str, Trial]] = {
    "local": {
        "shapes": _local(14, 14, 1),
        "stride": _local(14, 14, 2),
        "odd sizes": _local(13, 9, 1),
        "odd sizes, stride 2": _local(13, 9, 2),
    },
    "window": {"shapes": _window(14, 14), "odd sizes": _window(13, 9), "shifted": _window(14, 14, 3)},
    "patchwise": {"shapes": _patchwise(14, 14), "odd sizes": _patchwise(13, 9)},
    "global": {"shapes": _global(8, 8, 2), "odd sizes": _global(7, 5, 1), "class token": _global(7, 7, 1, extra=1)},
}


def promises(name: str, attention: str) -> Iterator[Promise]:
    """Try an operator by name or reference, as the backbones of an attention make and call it."""
    if attention not in TRIALS:
        raise unknown("attention", attention, TRIALS)
    trials = TRIALS[attention]
    usual = next(iter(trials.values()))
    (variant,) = library.expand(f"operator={name}", library.load_variant("acmix"))
    make: Callable[..., nn.Module] | None = operator_of(variant, BACKBONE[attention])
    if make is None:
        yield Promise(name="made", holds=None, told=f"{BACKBONE[attention]} keeps its own")
        return

    def made(trial: Trial = usual, **more: Any) -> nn.Module:
        torch.manual_seed(0)
        assert make is not None
        return make(*trial.sizes, **trial.more, **more).eval()

    first = tried("made", lambda: f"a {type(made()).__name__} from {ops.ATTENTIONS[attention].arguments}")
    yield first
    if not first.holds:
        return
    for what, trial in trials.items():
        yield tried(what, lambda trial=trial: _shapes(made(trial), trial))  # type: ignore[misc]
    yield tried("batch of 1", lambda: _batch_of_one(made(), usual))
    yield tried("gradients", lambda: _gradients(made(), usual))
    for dtype in CLOSE:
        yield tried(str(dtype).removeprefix("torch."), lambda dtype=dtype: _dtype(made(), usual, dtype))  # type: ignore[misc]
    yield tried("memory layout", lambda: _layout(made(), usual))
    yield tried("determinism", lambda: _determinism(made(), made(), usual))
    yield tried("copies", lambda: _copies(made(), usual))
    literal = (lambda: made(implementation="reference")) if name == "acmix" else made
    yield tried("macs", lambda: _macs(literal(), usual))


def images(trial: Trial, batch: int = 2) -> Tensor:
    """Random input of a trial, always the same."""
    return torch.randn(batch, *trial.shape, generator=torch.Generator().manual_seed(1))


def _run(module: nn.Module, trial: Trial, x: Tensor) -> Tensor:
    with torch.no_grad():
        out = module(x, *trial.call)
    if not isinstance(out, Tensor):
        raise Broken(f"it must give a tensor, and gave {type(out).__name__}")
    return out


def _shapes(module: nn.Module, trial: Trial) -> str:
    out, wanted = _run(module, trial, images(trial)), (2, *trial.result)
    if tuple(out.shape) != wanted:
        raise Broken(f"{(2, *trial.shape)} must give {wanted}, and gave {tuple(out.shape)}")
    if not out.isfinite().all():
        raise Broken(f"{(2, *trial.shape)} gave values that are not finite")
    return f"{(2, *trial.shape)} to {wanted}"


def _apart(ours: Tensor, theirs: Tensor) -> float:
    return ((ours.float() - theirs.float()).abs().max() / theirs.float().abs().max().clamp(min=1e-30)).item()


def _batch_of_one(module: nn.Module, trial: Trial) -> str:
    x = images(trial)
    apart = _apart(_run(module, trial, x[:1]), _run(module, trial, x)[:1])
    if not apart < 1e-4:
        raise Broken(f"an image alone differs from the same image in a batch by {apart:.1g}: it depends on the others")
    return "an image alone gives what it gives in a batch"


def _gradients(module: nn.Module, trial: Trial) -> str:
    x = images(trial).requires_grad_()
    out = module.train()(x, *trial.call)
    (out * torch.linspace(-1, 1, out.numel()).view_as(out).sin()).sum().backward()
    named = [("the input", x), *module.named_parameters()]
    missing = [name for name, tensor in named if tensor.requires_grad and tensor.grad is None]
    if missing:
        raise Broken(f"no gradient reaches {', '.join(missing[:5])}")
    wild = [name for name, tensor in named if tensor.grad is not None and not tensor.grad.isfinite().all()]
    if wild:
        raise Broken(f"the gradient of {', '.join(wild[:5])} is not finite")
    return f"finite, of the input and of {len(named) - 1} tensors of parameters"


def _dtype(module: nn.Module, trial: Trial, dtype: torch.dtype) -> str:
    x = images(trial)
    expected = _run(module, trial, x)
    if dtype == torch.float64:
        out = _run(module.double(), trial, x.double())
    else:
        with torch.autocast("cpu", dtype=dtype):
            out = _run(module, trial, x)
    apart = _apart(out, expected)
    if not apart < CLOSE[dtype]:
        raise Broken(f"differs from float32 by {apart:.1g} of the largest value")
    return f"within {apart:.0e} of float32" + ("" if dtype == torch.float64 else ", under autocast")


def _layout(module: nn.Module, trial: Trial) -> str:
    x = images(trial)
    expected = _run(module, trial, x)
    if x.ndim == 4:
        strided, what = x.contiguous(memory_format=torch.channels_last), "channels-last"
    else:
        strided, what = x.transpose(0, 1).contiguous().transpose(0, 1), "a transposed batch"
    apart = _apart(_run(module, trial, strided), expected)
    if not apart < 1e-4:
        raise Broken(f"{what} gives another result (by {apart:.1g})")
    return f"{what} gives the same"


def _determinism(module: nn.Module, again: nn.Module, trial: Trial) -> str:
    x = images(trial)
    out = _run(module, trial, x)
    if not torch.equal(out, _run(module, trial, x)):
        raise Broken("two passes over one input differ")
    if not torch.equal(out, _run(again, trial, x)):
        raise Broken("two operators from one seed differ")
    return "the same twice, to the last bit, from one seed"


def _copies(module: nn.Module, trial: Trial) -> str:
    x, other = images(trial), copy.deepcopy(module)
    if not torch.equal(_run(module, trial, x), _run(other, trial, x)):
        raise Broken("a deep copy gives another result")
    return "a deep copy gives the same"


def _macs(module: nn.Module, trial: Trial) -> str:
    if not hasattr(module, "macs"):
        raise NotPromised("it states no cost: without a method macs(x) its MACs are shown as a lower bound")
    x = images(trial, 1)
    stated = sum(own_formula(module, (x, *trial.call)).values())
    book = keep(module, x, *trial.call)
    if book.unknown:
        raise NotPromised(f"it states {stated:,}; no cost is known of {', '.join(book.unknown)}")
    if book.macs != stated:
        raise Broken(
            f"it states {stated:,} multiply-adds, and its operations make {book.macs:,}; right only where it executes "
            "other ones than the algorithm needs"
        )
    return f"{stated:,}, as its operations make"
