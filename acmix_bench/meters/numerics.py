"""By which arithmetic a GPU multiplies: set at the start of measuring, for products and convolutions alike.

As torch comes, convolutions of float32 run in TF32 and products do not: what is timed and scored is then neither.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import torch


def hold(protocol: dict[str, Any]) -> dict[str, Any]:
    """Set the arithmetic that the protocol says; nothing on the CPU, where a protocol has none of it.

    Call it before anything runs on the device: cuBLAS reads its workspace when it begins.

    Returns:
        What torch says is set now.
    """
    if "products" not in protocol:
        return {}
    if protocol.get("deterministic"):
        # What torch asks for: https://docs.pytorch.org/docs/stable/generated/torch.use_deterministic_algorithms.html
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(bool(protocol.get("deterministic")))
    torch.backends.cudnn.benchmark = protocol["cudnn_benchmark"]
    _multiply_in(protocol["products"])
    products, convolutions, _ = (one.fp32_precision for one in _settings())
    return {
        "products": products,
        "convolutions": convolutions,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def _multiply_in(products: str) -> None:
    """Set `ieee` or `tf32` for cuBLAS and cuDNN.

    By torch's old names and then by its new ones: after the new ones alone, what still reads the old ones raises
    (torch.compile did up to torch 2.11: https://github.com/pytorch/pytorch/issues/166387).
    """
    with warnings.catch_warnings(action="ignore"):  # of old names
        torch.backends.cuda.matmul.allow_tf32 = products == "tf32"
        torch.backends.cudnn.allow_tf32 = products == "tf32"
    for one in _settings():
        one.fp32_precision = products


def _settings() -> list[Any]:
    """Where torch keeps the arithmetic of products, of convolutions and of recurrent layers."""
    return [torch.backends.cuda.matmul, *(getattr(torch.backends.cudnn, kind) for kind in ("conv", "rnn"))]
