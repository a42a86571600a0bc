"""What moves a timing, held still: the device, the threads, the cores that they run on, and the memory allocator."""

from __future__ import annotations

import ctypes
import os
import random
from contextlib import suppress
from typing import Any

import threadpoolctl
import torch

from acmix_bench.meters import gpu
from acmix_bench.train import devices

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt
HOLES = 128  # 4 KiB to 4 MiB each


def hold(protocol: dict[str, Any]) -> dict[str, Any]:
    """Pin this process to as many cores as it has threads, and where asked keep all memory that it frees.

    A meter that reads no threads of the protocol is held by nothing.

    glibc gives large blocks back to the system at once, and every page of the next one is a fault again: on a virtual
    machine that is up to half of a step's time, and it depends on what was freed before. With `keep` it keeps them,
    and its heap is scattered.

    Returns:
        What was held, and torch's math libraries.
    """
    if "threads" not in protocol:
        return {}
    threads = protocol["threads"]
    use_threads(threads)
    cores = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, cores)
    keeps_memory = False
    if protocol.get("allocator") == "keep":
        with suppress(AttributeError, OSError):  # not glibc
            libc = ctypes.CDLL(None)
            keeps_memory = bool(libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, -1))
            _scatter(libc)
    words = ("Math Kernel", "MKL-DNN", "CPU cap")
    build = torch.__config__.show().splitlines()
    libraries = [line.strip(" -") for line in build if any(word in line for word in words)]
    return {"threads": threads, "cores": cores, "keeps_memory": keeps_memory, "libraries": libraries}


def use_device(name: str) -> dict[str, Any]:
    """Compute on a device from here on, and run on those of this process's cores that are near it, where it has any.

    Returns:
        What it is, of a GPU: `gpu`.

    Raises:
        UserError: where it is not here or does not answer.
    """
    device = devices.use(name)
    if near := gpu.cores_near(device) & os.sched_getaffinity(0):
        os.sched_setaffinity(0, near)
    told = gpu.identity(device)
    return {"gpu": told} if told else {}


def use_threads(threads: int) -> None:
    """Hold torch to a number of CPU threads.

    Not by torch.set_num_threads, which also tells MKL to thread products inside threads: 10 % slower attention.
    """
    torch.get_num_threads()  # torch sets the number itself when it is first asked
    threadpoolctl.threadpool_limits(threads, user_api="openmp")
    if torch.get_num_threads() != threads:  # a torch without OpenMP
        torch.set_num_threads(threads)


def _scatter(libc: ctypes.CDLL) -> None:
    """Leave holes of random sizes in the heap, so that each process has a memory layout of its own.

    Else all processes that are forked from one server lie alike in memory, and have the same luck with it: a version
    then differed from itself by up to 5 %, and no number of processes averaged that away.
    """
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    draw = random.SystemRandom()
    blocks = [libc.malloc(ctypes.c_size_t(int(2 ** draw.uniform(12, 22)))) for _ in range(2 * HOLES)]
    for block in draw.sample(blocks, HOLES):
        libc.free(block)
