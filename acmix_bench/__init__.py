"""acmix-bench: benchmark and ablation harness for ACmix, the mix of convolution and self-attention.

    import acmix_bench
    acmix_bench.load("results/paths").frame()           a run as a pandas data frame
    acmix_bench.run("paths", variants=["shift=tensor"])  measures it
    acmix_bench.flops("resnet50", "resnet50-acmix")      parameters and multiply-adds
    acmix_bench.throughput("nano", "nano-acmix")         images a second

Nothing heavy is imported before it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acmix_bench.api import Results, flops, load, run, throughput
    from acmix_bench.errors import UserError

__all__ = ["Results", "UserError", "__version__", "flops", "load", "run", "throughput"]


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is."""
    if name == "__version__":
        from importlib.metadata import version

        return version("acmix-bench")
    if name == "UserError":
        from acmix_bench.errors import UserError

        return UserError
    if name in __all__:
        from acmix_bench import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
