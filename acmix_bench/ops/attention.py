"""Local self-attention (stand-alone self-attention), exact and fast.

The definition, for a query pixel i and the pixels j of the window round it, keys, values and
positions being reflection padded:

    score(i, j) = d^-1/2 q_i . (k_j + p_i - p_j)         weights = softmax over j

Nothing of size window^2 * C * H * W is made here, for two reasons:

1. q_i . p_i is the same for every j of a window, so the softmax cancels it. Subtracting p from the
   keys once is enough: score(i, j) = d^-1/2 q_i . (k_j - p_j).
2. All the queries of a tile share one set of keys, so a tile is one dense attention with a mask,
   which `scaled_dot_product_attention` runs as matrix products. The tiles of a few images at a time
   are gathered and attended to, so that on a CPU they are still in the cache, and nowhere take much memory.

A reflected pixel is a pixel of the map that stands in the window a second time. When one tile covers
the whole map it is therefore counted instead of copied: a key that occurs m times in the window gets
log(m) added to its score, and one that does not occur gets -inf.

Shape letters: B batch, C channels, N heads, d = C / N, H W map, h w query grid (strided), T tile edge,
t tiles of a map, L queries of a tile, S keys of a tile.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acmix_bench.ops.reflection import check_window, reflect
from acmix_bench.ops.remember import constant
from acmix_bench.ops.sdpa import aligned, attend

# Of one key and its value, in queries that attend to it, by kind of device. Moves nothing but the speed.
# cpu: measured on two x86 cores (docs/fast.md, "The tile rule"). Others: not fitted yet, the CPU's;
# examples/fit_tile_rule.py measures a device and tells its constant.
GATHER_COST = {"cpu": 16}

# Of keys at one time; as many values come on top. On a CPU what fits into a core's cache (measured likewise), elsewhere
# enough tiles to keep thousands of blocks busy in every call, and little beside a GPU's memory.
GATHERED_BYTES = {"cpu": 2 << 20}
GATHERED_ELSEWHERE = 256 << 20


def project_coordinates(projection: nn.Linear, height: int, width: int) -> Tensor:
    """Project each pixel's place, x and y from -1 to 1: (H, W, d), in float32 at least whatever the model's dtype."""
    weight, bias = projection.weight, projection.bias
    exact = torch.promote_types(weight.dtype, torch.float32)
    grid = _coordinates(height, width, exact, weight.device)
    # Autocast would lower the coordinates' precision; the meta device knows no autocast.
    on_meta = weight.device.type == "meta"
    with nullcontext() if on_meta else torch.autocast(weight.device.type, enabled=False):
        return F.linear(grid, weight.to(exact), bias.to(exact))


def local_attention(
    q: Tensor, k: Tensor, v: Tensor, position: Tensor, *, heads: int, window: int, stride: int
) -> Tensor:
    """Attend from every `stride`-th pixel to the window round it. Source: ACmix, section 3.2 and its released ResNet.

    Args:
        q, k, v: (B, H, W, C), channels head-major (n * d + e).
        position: (H, W, d), the projected coordinates, the same for every head.

    Returns:
        (B, ceil(H / stride), ceil(W / stride), C), channels head-major.
    """
    height, width = q.shape[1:3]
    check_window(height, width, window)
    key = (k.unflatten(-1, (heads, -1)) - position[:, :, None]).flatten(-2)
    query = q[:, ::stride, ::stride]
    tile = tile_edge(height, width, window=window, stride=stride, device=q.device.type)
    run = _whole_map if tile >= max(query.shape[1:3]) else partial(_tiled, tile=tile)
    return run(query, key, v, heads=heads, window=window, stride=stride)


def tile_edge(height: int, width: int, *, window: int, stride: int, device: str = "cpu") -> int:
    """Choose the tile edge that costs least: large tiles share keys, small ones waste fewer scores.

    A tile of T x T queries reads ((T - 1) stride + window)^2 keys. Each key costs one score for every query of
    the tile, and `GATHER_COST` more to fetch. A tile that covers the map gathers nothing, and has H W keys.
    """
    h, w = math.ceil(height / stride), math.ceil(width / stride)
    largest, gather_cost = max(h, w), GATHER_COST.get(device, GATHER_COST["cpu"])
    cheapest, edge = h * w * height * width, largest
    for tile in range(min(largest - 1, 4 * window), 0, -1):
        keys = ((tile - 1) * stride + window) ** 2
        cost = math.ceil(h / tile) * math.ceil(w / tile) * keys * (tile**2 + gather_cost)
        if cost < cheapest:
            cheapest, edge = cost, tile
    return edge


def _at_once(tiles: int, tile_bytes: int, device: str) -> tuple[int, int]:
    """How many images are gathered together, and how many tiles of an image, where one alone is too large."""
    bound = GATHERED_BYTES.get(device, GATHERED_ELSEWHERE)
    image = tiles * tile_bytes
    if image <= bound:
        return bound // image, tiles
    # Each part of an image would get a gradient, or compiled code, for the whole map.
    stays_whole = torch.is_grad_enabled() or torch.compiler.is_compiling()
    parts = math.ceil(image / (max(bound, GATHERED_ELSEWHERE) if stays_whole else bound))
    return 1, math.ceil(tiles / parts)


def _whole_map(query: Tensor, key: Tensor, value: Tensor, *, heads: int, window: int, stride: int) -> Tensor:
    """One dense attention over the map; the mask counts how often each pixel stands in each window."""
    batch, h, w, channels = query.shape
    height, width = key.shape[1:3]
    mask_LS = _map_mask(height, width, window, stride, query.dtype, query.device)
    out_BNLd = attend(_heads(query, heads), _heads(key, heads), _heads(value, heads), mask_LS)
    return out_BNLd.transpose(1, 2).reshape(batch, h, w, channels)


def _tiled(query: Tensor, key: Tensor, value: Tensor, *, heads: int, window: int, stride: int, tile: int) -> Tensor:
    """One attention a tile: its keys are gathered once, and one mask serves all tiles."""
    batch, h, w, channels = query.shape
    height, width = key.shape[1:3]
    tiles_y, tiles_x = math.ceil(h / tile), math.ceil(w / tile)
    tiles, is_flat = tiles_y * tiles_x, _takes_rows(query.device)
    mask_LS = _tile_mask(tile, window, stride, query.dtype, query.device)
    keys = mask_LS.shape[1]
    images, some = _at_once(tiles, keys * channels * query.element_size(), query.device.type)
    pixels = _tile_pixels(min(images, batch) if is_flat else 1, height, width, tile, window, stride, query.device)
    if h % tile or w % tile:  # queries past the edge are zeros; they attend to something and are dropped at the end
        query = F.pad(query, (0, 0, 0, tiles_x * tile - w, 0, tiles_y * tile - h))
    query_BtLC = (
        query.reshape(batch, tiles_y, tile, tiles_x, tile, channels)
        .transpose(2, 3)
        .reshape(batch, tiles, tile * tile, channels)
    )
    outs = []
    for q, *maps in zip(*(x.split(images) for x in (query_BtLC, key.flatten(1, 2), value.flatten(1, 2))), strict=True):
        rows = len(q) if is_flat else 1
        k, v = (x.reshape(len(q) // rows, -1, channels) for x in maps)
        parts = zip(q.split(some, 1), pixels[: rows * tiles * keys].split(rows * some * keys), strict=True)
        outs += [_attend(part.flatten(0, 1), k, v, which, mask_LS, heads=heads) for part, which in parts]
    out_BtLC = torch.cat(outs) if len(outs) > 1 else outs[0]
    out = out_BtLC.reshape(batch, tiles_y, tiles_x, tile, tile, channels).transpose(2, 3)
    return out.reshape(batch, tiles_y * tile, tiles_x * tile, channels)[:, :h, :w]


def _attend(query_tLC: Tensor, key: Tensor, value: Tensor, pixels: Tensor, mask_LS: Tensor, *, heads: int) -> Tensor:
    """(t, L, C): gather the keys and values of some tiles, and attend to them.

    Args:
        key, value: (g, pixels, C), of each of which `pixels` says which to take.
    """
    gathered = [_taken(x, pixels) for x in (key, value)]
    key_tSC, value_tSC = (x.reshape(len(query_tLC), -1, x.shape[-1]) for x in gathered)
    with _gathering_again(list(zip(gathered, (key, value), strict=True)), pixels):
        out_tNLd = attend(_heads(query_tLC, heads), _heads(key_tSC, heads), _heads(value_tSC, heads), mask_LS)
    return out_tNLd.transpose(1, 2).flatten(2)


def _takes_rows(device: torch.device) -> bool:
    """Whether pixels of several images are taken as rows of one matrix. Elsewhere one image's index serves them all."""
    return device.type == "cpu"


def _taken(x: Tensor, pixels: Tensor) -> Tensor:
    """Some pixels of every map of (g, P, C): (g, len(pixels), C), or (len(pixels), C) of a single map.

    A CPU takes the rows of a matrix twice as fast, and adds to them four times as fast.
    """
    return x.flatten(0, 1).index_select(0, pixels) if len(x) == 1 else x.index_select(1, pixels)


def _gathering_again(pairs: list[tuple[Tensor, Tensor]], index: Tensor) -> AbstractContextManager[Any]:
    """Keep no gathered tensor from the forward to the backward pass: it is several maps large, and quickly made again.

    Args:
        pairs: each gathered tensor, and the map that it came from.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return nullcontext()
    sources = {gathered.untyped_storage().data_ptr(): source.detach() for gathered, source in pairs}

    def pack(saved: Tensor) -> Any:
        source = sources.get(saved.untyped_storage().data_ptr()) if saved.numel() else None
        return saved if source is None else (source, saved.size(), saved.stride(), saved.storage_offset())

    def unpack(packed: Any) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        source, *view = packed
        return _taken(source, index).as_strided(*view)

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


def _heads(x: Tensor, heads: int) -> Tensor:
    """(B, ..., C) to (B, N, pixels, d), a view."""
    return x.flatten(1, -2).unflatten(-1, (heads, -1)).transpose(1, 2)


@constant
def _coordinates(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(H, W, 2): the x and y of every pixel, from -1 to 1."""
    x = torch.linspace(-1, 1, width, dtype=dtype, device=device)
    y = torch.linspace(-1, 1, height, dtype=dtype, device=device)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


@constant
def _tile_pixels(
    images: int, height: int, width: int, tile: int, window: int, stride: int, device: torch.device
) -> Tensor:
    """(images t S,): where the keys of every tile stand among the pixels of so many images.

    A CPU adds to whole rows, in the backward pass, where the index has 64 bits.
    """
    rows, columns = (
        _tile_coordinates(size, math.ceil(size / stride / tile), tile, window=window, stride=stride, device=device)
        for size in (height, width)
    )
    image = torch.arange(images, device=device)[:, None, None, None, None] * (height * width)
    pixels = (image + rows[:, None, :, None] * width + columns[None, :, None, :]).flatten()
    return pixels if _takes_rows(device) else pixels.int()


def _tile_coordinates(size: int, tiles: int, tile: int, *, window: int, stride: int, device: torch.device) -> Tensor:
    """(tiles, side): the map coordinate of every key of every tile along one axis."""
    pad = window // 2
    starts = torch.arange(tiles, device=device) * (tile * stride) - pad
    offsets = torch.arange((tile - 1) * stride + window, device=device)
    wanted = starts[:, None] + offsets[None, :]
    return reflect(wanted.clamp(max=size - 1 + pad), size)


@constant
def _tile_mask(tile: int, window: int, stride: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(T^2, S), aligned: 0 where the key is in the query's window, -inf elsewhere."""
    start = torch.arange(tile, device=device) * stride
    offset = torch.arange((tile - 1) * stride + window, device=device)
    inside = (offset[None, :] >= start[:, None]) & (offset[None, :] < start[:, None] + window)
    both = inside[:, None, :, None] & inside[None, :, None, :]
    mask = torch.zeros(both.shape, dtype=dtype, device=device)
    return aligned(mask.masked_fill(~both, -math.inf).reshape(tile * tile, -1))


@constant
def _map_mask(height: int, width: int, window: int, stride: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(h w, H W), aligned: log of how often each pixel stands in each query's window, reflections included."""
    counts, exact = [], torch.promote_types(dtype, torch.float32)
    for size in (height, width):
        start = torch.arange(0, size, stride, device=device)
        wanted = start[:, None] + torch.arange(window, device=device) - window // 2
        occurs = reflect(wanted, size)[:, :, None] == torch.arange(size, device=device)
        counts.append(occurs.sum(1).to(exact).log())
    rows, columns = counts
    mask = rows[:, None, :, None] + columns[None, :, None, :]
    return aligned(mask.reshape(-1, height * width).to(dtype))
