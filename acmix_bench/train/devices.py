"""Several processes that train one model, as torchrun starts them; one process alone is the case of one."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from acmix_bench.errors import UserError

Made = TypeVar("Made")


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
    words = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(word in told for word in words)
    )


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
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
