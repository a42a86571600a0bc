"""An axis: what it decides, its values, and how it changes a network."""

from torch import nn

from acmix_bench.spec.axis import Axis


def set_activation(model: nn.Module, value: str) -> None:
    """Put another activation in the place of every ReLU."""
    if value == "gelu":
        for module in list(model.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.ReLU):
                    setattr(module, name, nn.GELU())


ACTIVATION = Axis(meaning="the backbone's activations", values=("relu", "gelu"), apply=set_activation)
