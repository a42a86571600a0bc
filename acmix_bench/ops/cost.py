"""What the operator costs, in closed form: the judge of every counter. Source: ACmix, table 1.

MACs are multiply-adds of one image; the papers call them FLOPs. Additions alone (the shifts, the mix) and the
softmax count as zero, as everywhere in the field. This is the cost of the algorithm: an implementation may
execute more.

The stages, for C channels, N heads, d = C / N, window a, kernel k, an H x W map and an h x w output grid:

    stage_1              3 C_in C   H W    the three 1x1 projections
    attention            2 a^2 C    h w    the scores and the weighted sum
    fully_connected      3 k^2 C    H W    3N to k^2 for each of d groups
    grouped_convolution  k^4 C      h w    k^2 to N for each of d groups; none where tensors are shifted
    rest                 2 d        H W    the position projection (made once a batch, counted once an image)
"""

from __future__ import annotations

from acmix_bench.errors import ShapeError

STAGES = ("stage_1", "attention", "fully_connected", "grouped_convolution", "rest")


def operator_macs(
    in_channels: int,
    channels: int,
    height: int,
    width: int,
    *,
    heads: int,
    window: int,
    kernel_size: int,
    stride: int,
    paths: str,
    shift: str,
) -> dict[str, int]:
    """MACs of one image by stage; the keys are `STAGES`."""
    if channels % heads:
        raise ShapeError(f"{channels} channels do not divide into {heads} heads")
    pixels, outputs = height * width, -(-height // stride) * -(-width // stride)
    macs = dict.fromkeys(STAGES, 0)
    macs["stage_1"] = 3 * in_channels * channels * pixels
    if paths != "conv":
        macs["attention"] = 2 * window**2 * channels * outputs
        macs["rest"] = 2 * (channels // heads) * pixels
    if paths != "attention":
        macs["fully_connected"] = 3 * kernel_size**2 * channels * pixels
        if shift == "group":
            macs["grouped_convolution"] = kernel_size**4 * channels * outputs
    return macs


def operator_parameters(
    in_channels: int, channels: int, *, heads: int, kernel_size: int, paths: str, mix: str, shift: str, kernel: str
) -> int:
    """Parameters that train: a fixed grouped convolution has none."""
    count = 3 * in_channels * channels + 3 * channels
    if paths != "conv":
        count += 3 * (channels // heads)
    if paths != "attention":
        count += 3 * heads * kernel_size**2
        if shift == "group" and kernel == "learned":
            count += kernel_size**4 * channels
    if paths == "both":
        count += {"fixed": 0, "alpha": 1, "alpha-beta": 2}[mix]
    return count
