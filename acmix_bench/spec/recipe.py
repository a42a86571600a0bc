"""How a model is trained: everything that a training run's result depends on, beside model, data and seed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from acmix_bench.errors import UserError
from acmix_bench.spec.strict import Value


class Recipe(Value):
    """The defaults are the recipe `short`. Papers' recipes are in `recipes/`, each with its source."""

    epochs: int = Field(3, ge=1, description="passes over the training images")
    train_batch: int = Field(64, ge=1, description="images an update, over all devices; what is left over is dropped")
    accumulate: int = Field(1, ge=1, description="forward and backward passes an update, which share its images")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="AdamW, or SGD with momentum")
    learning_rate: float = Field(2e-3, gt=0, description="peak, for this train_batch: it is not scaled by it")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(0.05, ge=0, description="of the optimizer")
    decay: Literal["all", "weights"] = Field(
        "all", description="what decays; weights: spares norms, biases, positions, alpha and beta"
    )
    schedule: Literal["cosine", "step", "drops", "poly", "linear"] = Field(
        "cosine",
        description="step: a tenth after every third of the epochs; poly: the share left, to the power of 0.9",
    )
    drops: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.6667, 0.9167), description="shares of the updates after which schedule drops goes down to a tenth"
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the updates in which the learning rate rises")
    last_rate: float = Field(0.0, ge=0, description="learning rate that cosine ends with")
    clip: float = Field(0.0, ge=0, description="largest norm of the gradients; 0: any")
    smoothing: float = Field(0.0, ge=0, lt=1, description="label smoothing")
    random_crop: float = Field(1.0, gt=0, le=1, description="least share of an image's area in a crop; 1: no crop")
    flip: float = Field(0.0, ge=0, le=1, description="probability of a horizontal flip")
    randaugment: str = Field("", description="timm's name of it, such as rand-m9-mstd0.5-inc1; empty: none")
    erasing: float = Field(0.0, ge=0, le=1, description="probability that a rectangle is erased")
    mixup: float = Field(0.0, ge=0, description="alpha of Mixup; 0: none")
    cutmix: float = Field(0.0, ge=0, description="alpha of CutMix; 0: none")
    repeats: int = Field(1, ge=1, description="repeated augmentation: draws of an image in an epoch of as many images")
    drop_path: float = Field(0.0, ge=0, lt=1, description="stochastic depth of the last block, rising from 0")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the weights' moving average, which is scored; 0: none")
    compile: bool = Field(False, description="torch.compile takes the network")
    sync_norm: bool = Field(False, description="BatchNorm over all GPUs")
    interpolation: Literal["bilinear", "bicubic"] = Field("bilinear", description="of resized images")
    crop: float = Field(0.875, gt=0, le=1, description="share of a test image's resized edge in its middle crop")


class DenseRecipe(Recipe):
    """What segmentation and detection draw of an image beside its flip: scale, crop and colours."""

    least_scale: float = Field(1.0, gt=0, description="smallest factor of a training image's size; 1: as in a test")
    most_scale: float = Field(1.0, gt=0, description="largest factor of a training image's size")
    train_crop: int = Field(0, ge=0, description="edge in pixels of a random crop of a training image; 0: no crop")
    photometric: bool = Field(False, description="random brightness, contrast, saturation and hue, as SSD's")

    @model_validator(mode="after")
    def _scales_in_order(self) -> DenseRecipe:
        if self.least_scale > self.most_scale:
            raise UserError(f"least_scale={self.least_scale:g} is more than most_scale={self.most_scale:g}")
        return self


class NamedRecipe(DenseRecipe):
    """A recipe as it stands in a YAML file."""

    summary: str = Field(min_length=1, description="what it trains, in a line")
    source: str = Field(min_length=1, description="the paper or code that it is taken from")
