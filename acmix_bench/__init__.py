"""acmix-bench: benchmark and ablation harness for ACmix, the mix of convolution and self-attention."""

from importlib.metadata import version

__version__ = version("acmix-bench")
__all__ = ["__version__"]
