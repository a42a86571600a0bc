"""The command line: each command reads its arguments, makes one call, and prints.

Exit codes: 0 fine, 1 some cells failed, 2 a user's mistake, 3 a regression, 4 not comparable, 5 nothing was measured,
130 interrupted, 143 ended by SIGTERM.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Annotated, NoReturn

import typer

from acmix_bench.cli import claims, doctor, measure, own, report, versions, view, watch, weights
from acmix_bench.cli.common import as_help, is_watched, note
from acmix_bench.errors import Interrupted, Terminated, UserError

app = typer.Typer(
    help=as_help("""Benchmark and ablation harness for ACmix, the mix of convolution and self-attention.

\b
Examples:
  acmix-bench ablate --experiment paths       the main job: a table in minutes
  acmix-bench ablate --variant shift=tensor   one change against the baseline
  acmix-bench flops operator-64-acmix@28      MACs by stage, and by counters
  acmix-bench claims --budget 60              what of the paper holds here?
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
        "claims": claims.claims,
    },
    "Look": {
        "list": view.list_names,
        "show": view.show,
        "table": report.table,
        "plot": report.plot,
        "report": report.report,
        "plan": report.plan,
        "status": watch.status,
    },
    "Hold runs and versions beside each other": {
        "compare": versions.compare_runs,
        "merge": versions.merge,
        "regress": versions.regress,
    },
    "Is this machine fit to measure": {
        "doctor": doctor.doctor,
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
    """Run the command line; a user's mistake is one line and exit code 2.

    SIGTERM ends it as Ctrl-C does: finished work is kept, and what runs is ended with it.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without × or ± gets a question mark
    sys.path.append("")  # an operator of the user's own is imported from the working folder
    ended: list[int] = []  # by SIGTERM, of which typer would tell no more than of Ctrl-C
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, partial(_terminate, ended))
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # a disk may be full, and nothing can be told of it at the very end
    except UserError as error:
        _end(2, f"error: {error}")
    except (Interrupted, KeyboardInterrupt) as error:
        _end(143 if ended or getattr(error, "terminated", False) else 130, str(error) or "interrupted")
    except SystemExit as end:
        if end.code == 130:  # typer has turned Ctrl-C into this without a word
            _end(143 if ended else 130, "interrupted")
        raise
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(0) from None
    except OSError as error:
        if error.errno not in FULL:
            if error.filename is None:
                raise
            _end(2, f"error: {UserError(f'{error.filename}: {error.strerror}')}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would try once more
        _end(2, f"error: {error.filename or 'the output'}: cannot be written ({error.strerror})")


# A disk that is full, one whose share of a user or a process is used up, and one that takes no more.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def _terminate(ended: list[int], number: int, _: object) -> None:
    ended.append(number)
    raise Terminated


def _end(code: int, line: str) -> NoReturn:
    """Tell a last line, where it can be told."""
    with suppress(OSError):
        note(line)
    raise SystemExit(code) from None
