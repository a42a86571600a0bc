"""A step as one CUDA graph, so that its kernels follow each other without this machine between them."""

from __future__ import annotations

from functools import partial

import torch

from acmix_bench.meters.clock import Step

WARM_UP = 3  # steps on the side stream before the capture, as torch's notes do


class CannotCapture(RuntimeError):
    """A step that no graph can hold. What torch keeps of the attempt is in the way of what else the process runs."""


def captured(step: Step, release: Step, device: torch.device) -> Step:
    """Capture a step that has run before; the one that is given back replays it, on the same tensors.

    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs

    Args:
        release: frees what a step leaves behind: gradients are then the graph's own.

    Raises:
        CannotCapture: where the step does what cannot be captured, with what torch says of it.
    """
    with torch.cuda.device(device):
        side, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                step()
        current.wait_stream(side)
        torch.cuda.synchronize(device)
        release()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=side):
                step()
        except RuntimeError as error:
            # Where the step raised, the end of the capture raises too, and says less.
            first = error.__context__ if isinstance(error.__context__, RuntimeError) else error
            told = (str(first).strip().splitlines() or [type(first).__name__])[0]
            raise CannotCapture(f"launch=graph: the step cannot be captured as a CUDA graph: {told}") from error
    return partial(_replay, graph, step)


def _replay(graph: torch.cuda.CUDAGraph, step: Step) -> None:
    """Run a graph; its step is kept with it, for the graph reads and writes the memory of the step's tensors."""
    graph.replay()
