"""Commands for released weights: import-weights, predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acmix_bench.cli import complete

ModelOption = Annotated[
    str,
    typer.Option("--model", "-m", help="BACKBONE-VARIANT, such as swin-t-acmix.", autocompletion=complete.models),
]


def import_weights(
    source: Annotated[
        Path, typer.Argument(help="A checkpoint, .pth or .safetensors: the released code's, timm's or torchvision's.")
    ],
    model: ModelOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="The safetensors file to write.")],
) -> None:
    """Turn a released checkpoint into weights of ours. Tensors only: no code of the file runs.

    Example: acmix-bench import-weights acmix_swin_tiny.pth --model swin-t-acmix --out swin-t-acmix.safetensors
    """
    from acmix_bench.backbones import weights

    print(f"{weights.import_weights(source, model, out)} tensors in {out}")


def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images to classify.")],
    model: ModelOption,
    weights: Annotated[Path, typer.Option("--weights", "-w", help="What import-weights wrote.")],
) -> None:
    """Print the five most likely ImageNet classes of each image.

    Example: acmix-bench predict --model swin-t-acmix --weights swin-t-acmix.safetensors cat.jpg
    """
    from acmix_bench.backbones.weights import predict as classify

    for image, classes in zip(images, classify(model, weights, images), strict=True):
        print(image)
        for name, probability in classes:
            print(f"  {100 * probability:6.2f} %  {name}")
