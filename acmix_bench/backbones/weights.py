"""Models by name with weights in them, wherever these come from."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from acmix_bench import backbones, data
from acmix_bench.backbones.build import build as build_backbone
from acmix_bench.backbones.released import head_of, read_checkpoint, released_to_ours
from acmix_bench.backbones.saved import description_of, save_weights
from acmix_bench.errors import UserError
from acmix_bench.spec.cell import Row


def import_weights(source: Path, model_name: str, destination: Path) -> tuple[int, str]:
    """Turn a released checkpoint into a safetensors file of our names.

    Nothing is written unless every tensor of the model is there, none is left over, all have the right shape, and all
    values are finite.

    Returns:
        How many tensors there are, and where in the file they stood.

    Raises:
        UserError: for a file that cannot be read, or that does not fit the model, naming what does not.
    """
    model, checkpoint = build(model_name), read_checkpoint(source)
    state = released_to_ours(checkpoint.state, model, where=str(source))
    save_weights(state, destination, {"model": model_name})
    return len(state), checkpoint.told


def load_weights(model: nn.Module, path: Path, *, model_name: str = "", new_head: bool = False) -> str:
    """Put weights into a model: those that `import-weights` or a training wrote, or a checkpoint as it was released.

    Args:
        model_name: refuses weights that were written for another model, even if their shapes fit.
        new_head: leaves the model's last layer as it is, whatever the file has there.

    Returns:
        Where in the file they stood, for whoever reads it.

    Raises:
        UserError: for a file that cannot be read, or that does not fit the model, naming what does not.
    """
    made_for = description_of(path).get("model", "")
    if made_for and model_name and _plain(made_for) != _plain(model_name):
        raise UserError(f"{path}: holds weights of {made_for}, not of {model_name}")
    checkpoint = read_checkpoint(path)
    head = head_of(model) if new_head else []
    state = released_to_ours(checkpoint.state, model, where=str(path), without=head)
    model.load_state_dict(state, strict=not head)
    return checkpoint.told


def build(model_name: str, *, channels: int | None = None, classes: int | None = None) -> nn.Module:
    """A model by name, for the channels and classes of its own data set where they are not given.

    Raises:
        UserError: for an unknown name, or an operator alone, which has no classes.
    """
    row = row_of(model_name)
    own = data.find(row.case.data)
    return build_backbone(
        row.case.backbone,
        row.variant,
        in_channels=channels or own.channels,
        num_classes=classes or own.classes,
        image_size=row.case.image_size,
    )


def row_of(model_name: str) -> Row:
    """A model that has classes, by name.

    Raises:
        UserError: for an unknown name, or an operator alone.
    """
    row = backbones.find_model(model_name)
    if backbones.is_single_operator(row.case.backbone):
        raise UserError(f"{model_name} is an operator alone; it has no classes")
    return row


def _plain(model_name: str) -> object:
    """What a model's weights are for: the same under any of its names, and at any size."""
    try:
        row = backbones.find_model(model_name)
    except UserError:  # as a variant that has no name is called
        return model_name.partition("@")[0]
    return row.case.backbone, {axis: value for axis, value in row.variant.content().items() if axis != "implementation"}
