"""acmix-bench: benchmark and ablation harness for ACmix, the mix of convolution and self-attention."""

from typing import Any

__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    """Read the version when it is asked for: looking into the installed packages takes its time."""
    if name == "__version__":
        from importlib.metadata import version

        return version("acmix-bench")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
