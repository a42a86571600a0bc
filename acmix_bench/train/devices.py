"""The device that a process computes on, what it says when it fails, and several processes that train one model.

As torchrun starts them; one process alone is the case of one.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from acmix_bench.errors import UserError, a_few

Made = TypeVar("Made")
# Of memory that is not enough, in the words of allocators, CUDA's libraries, MPS and SYCL. An internal error of cuDNN,
# and a cuBLAS that cannot be created, mostly are that too.
NO_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "ALLOC_FAILED",
    "ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR",
    "CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate",
    "OUT_OF_DEVICE_MEMORY",
    "OUT_OF_HOST_MEMORY",
)


class DeviceLost(Exception):
    """A device answers nothing any more in this process. It says what ran there, and what the device said of it."""


def here() -> list[str]:
    """The devices that are here, by name: the CPU, and those of the one kind of accelerator that torch is built for."""
    kind = torch.accelerator.current_accelerator(check_available=True)
    if kind is None:
        return ["cpu"]
    if kind.type == "mps":
        return ["cpu", "mps"]
    return ["cpu", *(f"{kind.type}:{number}" for number in range(torch.accelerator.device_count()))]


@cache
def found(name: str) -> torch.device:
    """A device by its name: cpu, cuda, cuda:N, mps, xpu or xpu:N. Without a number it is the process's current one.

    Raises:
        UserError: where it is not here, naming those that are.
    """
    there = here()
    if name not in there and name not in {one.partition(":")[0] for one in there}:
        raise UserError(f"device={name}: is not here; there is {a_few(there)}")
    return torch.device(name)


def use(name: str) -> torch.device:
    """Compute on a device from here on: events, streams, seeds and graphs are of a process's current device.

    Raises:
        UserError: where it is not here or does not answer.
    """
    device = found(name)
    try:
        if device.index is not None:
            torch.accelerator.set_device_index(device.index)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device={name}: cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def refuse_dtype(device: torch.device, dtype: str) -> None:
    """Refuse a number type that a device does not have.

    Raises:
        UserError: naming one that it has.
    """
    lacks = device.type == "mps" or (
        device.type == "xpu" and not getattr(torch.xpu.get_device_properties(device), "has_fp64", True)
    )
    if dtype == "float64" and lacks:
        raise UserError(f"dtype=float64: device={device} has no such numbers; set dtype=float32, or device=cpu")


def pins_memory(device: torch.device) -> bool:
    """Whether copies from pinned memory to a device overlap with its work."""
    return device.type in ("cuda", "xpu")


def runs_ahead(device: torch.device) -> bool:
    """Whether a process goes on while a device still computes, until it reads a result."""
    return device.type != "cpu"


def is_lost(device: torch.device) -> bool:
    """Whether a device answers nothing any more, as after an illegal access or a failed assertion in a kernel.

    CUDA gives such an error again to whatever is asked of it, until the process ends ("sticky"). What ran out of
    memory, or could not be launched, left it as it was.
    """
    if device.type == "cpu":
        return False
    try:
        torch.accelerator.synchronize(device)
    except RuntimeError:
        return True
    return False


def join(device: str) -> str:
    """Join the processes that torchrun has started, by nccl on GPUs and else by gloo.

    Returns:
        This process's device: of several GPUs its own.

    Raises:
        UserError: where there are fewer GPUs than processes.
    """
    if not dist.is_torchelastic_launched():
        return device
    if not device.startswith("cuda"):
        dist.init_process_group("gloo")
        return device
    place = int(os.environ["LOCAL_RANK"])
    if place >= torch.cuda.device_count():
        raise UserError(f"device={device}: process {place + 1} of this machine has no GPU; there are fewer")
    torch.cuda.set_device(place)
    dist.init_process_group("nccl", device_id=torch.device("cuda", place))
    return f"cuda:{place}"


def leave() -> None:
    """End what `join` began."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, which stays its own when training has ended; 0 writes and speaks for all."""
    return int(os.environ["RANK"]) if dist.is_torchelastic_launched() else 0


def world() -> int:
    """How many processes train."""
    return dist.get_world_size() if dist.is_initialized() else 1


def on_this_machine() -> int:
    """How many of them are here and share its cores."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if dist.is_initialized() else 1


def shared(model: nn.Module) -> nn.Module:
    """The model with its gradients averaged over all processes, from the weights of process 0."""
    return DistributedDataParallel(model) if dist.is_initialized() else model


def averaged(value: Tensor) -> Tensor:
    """Over all processes, the same in each."""
    if dist.is_initialized():
        dist.all_reduce(value)
        value /= dist.get_world_size()
    return value


def wait() -> None:
    """Until all processes are here."""
    if dist.is_initialized():
        dist.barrier()


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was not enough, in whatever words torch, its libraries or Python say it."""
    told = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(word in told for word in NO_MEMORY)
    )


def refuse_lost(device: torch.device, label: str, error: Exception) -> None:
    """Tell an error that ended more than what it came from: the device is lost for all that the process measures.

    Raises:
        DeviceLost: where it is, naming what ran there.
    """
    if is_lost(device):
        first = (str(error).strip().splitlines() or [""])[0]
        raise DeviceLost(f"{label}: {type(error).__name__}: {first}") from error


def halving(made: Callable[[int], Made], batch: int, say: Callable[[int], None] = lambda _: None) -> Made:
    """What is made of a batch, or where memory runs out of half as many images, and so on; `say` gets their number.

    Raises:
        Exception: what says that memory ran out, where it does for a single image.
    """
    while True:
        try:
            return made(batch)
        except Exception as error:
            if batch == 1 or not ran_out_of_memory(error):
                raise
        free_memory()
        batch //= 2
        say(batch)


def free_memory() -> None:
    """Free what a failed step held. Call it where its error is gone: that holds the frames it came through, and these
    the step's tensors; some hold the error in turn.
    """
    gc.collect()
    if kind := torch.accelerator.current_accelerator(check_available=True):
        torch.get_device_module(kind).empty_cache()  # torch.cuda, torch.xpu and torch.mps each have one
