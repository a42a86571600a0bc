"""torch.cuda without a GPU: a timeline that launches, streams, events and synchronisation move, and a log of calls.

A launch takes the host's time, and the GPU's once the stream gets to it. An event that was not waited for has no time,
and one that is recorded on a stream of another device is an error, as they are on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch


class FakeCuda:
    """Two GPUs, of which the first is the current one."""

    def __init__(self) -> None:
        self.now, self.log = 0.0, []
        self.current, self.streams = 0, {0: Stream(0), 1: Stream(1)}
        self.capturing: FakeGraph | None = None
        self.allocated = self.peak = self.reserved = self.peak_reserved = 0

    def clock(self) -> float:
        """The host's."""
        self.now += 1e-9
        return self.now

    def launch(self, seconds: float, *, host: float = 0.0, device: int = 1) -> None:
        """A kernel on the device's current stream."""
        if self.capturing:
            self.capturing.seconds += seconds
            return
        self.now += host
        stream = self.streams[device]
        stream.end = max(stream.end, self.now) + seconds

    def wait(self, device: int = 1) -> None:
        """What a capture does not allow."""
        if self.capturing:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore words")
        self.synchronize(torch.device("cuda", device))

    def synchronize(self, device: Any = None) -> None:
        index = self.index(device)
        self.log.append(("synchronize", index))
        self.now = max(self.now, self.streams[index].end)
        self.streams[index].waited_until = self.now

    def index(self, device: Any) -> int:
        index = torch.device(device).index if device is not None else None
        return self.current if index is None else index

    @contextmanager
    def device(self, device: Any) -> Iterator[None]:
        before, self.current = self.current, self.index(device)
        yield
        self.current = before

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.streams[stream.device] = self.streams[stream.device], stream
        self.log.append(("on stream", stream.device))
        yield
        self.streams[stream.device] = before

    @contextmanager
    def graph(self, graph: FakeGraph, stream: Stream) -> Iterator[None]:
        assert stream is not self.streams[stream.device], "a capture needs a side stream"
        self.capturing, before = graph, self.streams[stream.device]
        self.log.append(("capture", stream.device))
        try:
            yield
        except RuntimeError:
            raise RuntimeError("operation failed due to a previous error during capture")  # noqa: B904 - as torch does
        finally:
            self.capturing = None
            assert self.streams[stream.device] is before

    def put_in_place(self, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
        def replace(name: str, value: Any) -> None:
            monkeypatch.setattr(torch.cuda, name, value)

        for name in ("device", "stream", "graph", "synchronize"):
            replace(name, getattr(self, name))
        replace("Event", lambda **how: Event(self, **how))
        replace("Stream", lambda device: Stream(self.index(device)))
        replace("current_stream", lambda device=None: self.streams[self.index(device)])
        replace("CUDAGraph", lambda: FakeGraph(self))
        replace("get_device_properties", lambda device: SimpleNamespace(L2_cache_size=1000))
        replace("empty_cache", lambda: self.log.append(("empty_cache", self.current)))
        replace("memory_allocated", lambda device: self.allocated)
        replace("memory_reserved", lambda device: self.reserved)
        replace("max_memory_allocated", lambda device: self.peak)
        replace("max_memory_reserved", lambda device: self.peak_reserved)

        def reset(device: Any) -> None:
            self.log.append(("reset_peak", self.index(device)))
            self.peak, self.peak_reserved = self.allocated, self.reserved

        replace("reset_peak_memory_stats", reset)
        return self


class Stream:
    def __init__(self, device: int) -> None:
        self.device, self.end, self.waited_until = device, 0.0, 0.0

    def wait_stream(self, other: Stream) -> None:
        self.end = max(self.end, other.end)


class Event:
    def __init__(self, cuda: FakeCuda, *, enable_timing: bool = False) -> None:
        assert enable_timing
        self.cuda, self.made_on, self.stream, self.time = cuda, cuda.current, None, 0.0

    def record(self, stream: Stream | None = None) -> None:
        self.stream = stream or self.cuda.streams[self.cuda.current]
        if self.stream.device != self.made_on:
            raise RuntimeError("Event device does not match recording stream's device")
        self.time = max(self.stream.end, self.cuda.now)
        self.cuda.log.append(("record", self.stream.device))

    def elapsed_time(self, end: Event) -> float:
        assert self.stream and end.stream
        if end.time > end.stream.waited_until:
            raise RuntimeError("CUDA error: device not ready")
        return 1000 * (end.time - self.time)


class FakeGraph:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.seconds, self.replays = cuda, 0.0, 0

    def replay(self) -> None:
        self.replays += 1
        self.cuda.launch(self.seconds, host=1e-6)
