"""The command line: each command reads its arguments, makes one call, and prints.

Exit codes: 0 fine, 1 some cells failed, 2 a user's mistake, 3 a regression, 4 not comparable, 5 nothing was measured,
130 interrupted.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from acmix_bench.cli import measure, own, versions, view, weights
from acmix_bench.cli.common import as_help, is_watched, note
from acmix_bench.errors import Interrupted, UserError

app = typer.Typer(
    help=as_help("""Benchmark and ablation harness for ACmix, the mix of convolution and self-attention.

\b
Examples:
  acmix-bench ablate --experiment paths       the main job: a table in minutes
  acmix-bench ablate --variant shift=tensor   one change against the baseline
  acmix-bench flops operator-64-acmix@28      MACs by stage, and by counters
  acmix-bench compare base head               what became slower or dearer
  acmix-bench check mixers.py:MyMixer         does your operator work here?
  acmix-bench list                            all names that commands take
"""),
    no_args_is_help=True,
    rich_markup_mode="rich" if is_watched() else None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        import acmix_bench
        from acmix_bench.runs.environment import this_environment

        print(f"acmix-bench {acmix_bench.__version__}")
        print(this_environment())
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print this version, torch's, and the machine."
        ),
    ] = False,
) -> None:
    """Options of the command line as a whole."""


# By what somebody wants; a terminal shows them in these groups.
COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Measure": {
        "ablate": measure.ablate,
        "flops": measure.flops,
        "throughput": measure.throughput,
        "train": measure.train,
        "evaluate": weights.evaluate,
    },
    "Look": {
        "list": view.list_names,
        "show": view.show,
        "table": view.table,
        "plot": view.plot,
        "plan": view.plan,
    },
    "Hold runs and versions beside each other": {
        "compare": versions.compare_runs,
        "merge": versions.merge,
        "regress": versions.regress,
    },
    "Bring your own": {
        "check": own.check,
        "import-weights": weights.import_weights,
        "predict": weights.predict,
    },
}
for panel, commands in COMMANDS.items():
    for name, command in commands.items():
        app.command(name, rich_help_panel=panel, help=as_help(command.__doc__ or ""))(command)
app.command("serve", hidden=True)(versions.serve)


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without × or ± gets a question mark
    sys.path.append("")  # an operator of the user's own is imported from the working folder
    try:
        app()
    except UserError as error:
        note(f"error: {error}")
        raise SystemExit(2) from None
    except Interrupted as error:
        note(str(error))
        raise SystemExit(130) from None
    except SystemExit as end:
        if end.code == 130:  # typer has turned Ctrl-C into this without a word
            note("interrupted")
        raise
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(0) from None
