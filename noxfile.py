"""Sessions for maintainers. They run in the environment that nox itself is in: `make setup`, then `.venv/bin/nox`."""

import sys
import tempfile
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "tests"]


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; arguments after -- go to pytest."""
    session.run(sys.executable, "-m", "pytest", *session.posargs)


@nox.session
def full(session: nox.Session) -> None:
    """Train every model of the paper for a few steps at its full size (some minutes)."""
    environment = {"ACMIX_BENCH_FULL": "1"}
    session.run(sys.executable, "-m", "pytest", "tests/test_models.py", "-k", "full_size", env=environment)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff."""
    session.run(sys.executable, "-m", "ruff", "check", ".")
    session.run(sys.executable, "-m", "ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy, strictly."""
    session.run(sys.executable, "-m", "mypy")


@nox.session
def smoke(session: nox.Session) -> None:
    """Run a tiny ablation from end to end, in a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as results:
        command = [sys.executable, "-m", "acmix_bench", "ablate", "--experiment", "smoke", "--results", results]
        session.run(*command, *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Time the operator with pytest-benchmark, keep the history, and show the change since the last time."""
    history = ["--benchmark-autosave"]
    if any(Path(".benchmarks").glob("*/*.json")):
        history.append("--benchmark-compare")
    session.run(sys.executable, "-m", "pytest", "tests/benchmarks", "--benchmark-only", *history, *session.posargs)
