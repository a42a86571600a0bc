"""Sessions for maintainers. They run in the environment that nox itself is in: `make setup`, then `.venv/bin/nox`."""

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
PARALLEL = ("--numprocesses", "auto", "--maxprocesses", "4")
nox.options.sessions = ["lint", "types", "tests"]


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; arguments after -- go to pytest."""
    session.run(sys.executable, "-m", "pytest", *PARALLEL, *session.posargs)


@nox.session
@nox.parametrize("which", ["oldest", "newest"])
def versions(session: nox.Session, which: str) -> None:
    """Run the tests with the oldest versions that are declared, and with the newest that there are.

    `nox -s versions -- torch==2.14.1 torchvision==0.29.1` runs the newest with these instead. Each has an environment
    of its own, which is made anew.
    """
    environment = Path(".nox") / f"versions-{which}"
    python = str(environment / "bin" / "python")
    declared = tomllib.loads(Path("pyproject.toml").read_text())["project"]["dependencies"]
    # The oldest scikit-learn and scipy were built for numpy 1.
    pinned = [line.replace(">=", "==") for line in declared] + ["numpy<2"] if which == "oldest" else session.posargs
    session.run(sys.executable, "-m", "venv", "--clear", str(environment), external=True)
    session.run(python, "-m", "pip", "install", "--quiet", "--editable", ".[dev]", *pinned, external=True)
    # An old library may warn of what is new to it.
    lenient = ["--override-ini", "filterwarnings=default"] if which == "oldest" else []
    session.run(python, "-m", "pytest", *PARALLEL, *lenient, external=True)


@nox.session
def full(session: nox.Session) -> None:
    """Train every model of the paper for a few steps at its full size, and every variant (some minutes)."""
    environment, pytest = {"ACMIX_BENCH_FULL": "1"}, (sys.executable, "-m", "pytest")
    session.run(*pytest, "tests/backbones/test_models.py", "-k", "full_size", env=environment)
    long = (
        "cli/test_walk.py",
        "cli/test_own_pictures.py",
        "cli/test_train_imagenet.py",
        "cli/test_dense_commands.py",
        "cli/test_registry.py",
        "doctor/test_doctor.py",
        "heads/test_every_backbone.py",
        "report/test_figures.py",
        "runs/test_sweep.py",
        "runs/test_disk.py",
        "test_hostile.py",
        "test_told.py",
    )
    session.run(*pytest, *(f"tests/{name}" for name in long), env=environment)


@nox.session
def gpu(session: nox.Session) -> None:
    """Run what only a GPU can show (some minutes). It is skipped without one, unless ACMIX_BENCH_GPU=1 forces it."""
    asked = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    here = subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0
    if not here and os.environ.get("ACMIX_BENCH_GPU") != "1":
        session.skip("torch sees no GPU here; ACMIX_BENCH_GPU=1 runs the tests all the same, and fails")
    session.run(sys.executable, "-m", "pytest", "tests/gpu", "-n0", *session.posargs)


@nox.session
def cluster(session: nox.Session) -> None:
    """Run sweeps on a Ray cluster of this machine, and by submitit, in an environment of its own (some minutes).

    It needs util-linux and may have to be root: Ray listens on all networks, so it gets one that is loopback alone.
    """
    environment = Path(".nox") / "cluster"
    python = str(environment / "bin" / "python")
    session.run(sys.executable, "-m", "venv", "--clear", str(environment), external=True)
    session.run(python, "-m", "pip", "install", "--quiet", "--editable", ".[dev,ray]", "submitit", external=True)
    tests = ("tests/runs/test_cluster.py", "tests/runs/test_launch.py")
    session.run(python, "-m", "pytest", *tests, env={"ACMIX_BENCH_FULL": "1"}, external=True)


@nox.session
def browser(session: nox.Session) -> None:
    """Open report pages in a headless Chromium: no error, sorts, fits a phone, whole without scripts, prints.

    Pictures of them, and what is printed, are left in .nox/pages for somebody to look at.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        session.skip("chromium is not here (Debian: apt-get install chromium)")
    environment, pages = Path(".nox") / "browser", Path(".nox") / "pages"
    python, shown = str(environment / "bin" / "python"), Path("results") / "shown"
    session.run(sys.executable, "-m", "venv", "--clear", str(environment), external=True)
    session.run(python, "-m", "pip", "install", "--quiet", "playwright>=1.50", external=True)
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir(parents=True)
    runs = {
        **{name: [name] for name in ("paths", "speed", "backbones", "scenes-segment")},
        "two": ["paths", "paths-reference"],
        "unlike": ["memory", "training"],
    }
    for name, compared in runs.items():
        command = [sys.executable, "-m", "acmix_bench", "report", *compared, "--results", str(shown)]
        session.run(*command, "--out", str(pages / f"{name}.html"))
    made = [str(pages / f"{name}.html") for name in runs]
    session.run(python, "tests/report/browser.py", chromium, *made, external=True)


@nox.session
def latex(session: nox.Session) -> None:
    """Compile the LaTeX of shown runs, alone and in a paper of two columns (some seconds)."""
    if not shutil.which("pdflatex"):
        needed = "texlive-latex-recommended texlive-latex-extra texlive-science"
        session.skip(f"pdflatex is not here; of Debian it takes {needed}")
    session.run(
        *(sys.executable, "-m", "pytest", "tests/report/test_latex.py", "-k", "compiles", *session.posargs),
        env={"ACMIX_BENCH_FULL": "1"},
    )


@nox.session
def sanitize(session: nox.Session) -> None:
    """Run the C++ kernels over odd shapes under the address and undefined-behaviour sanitizers (some minutes)."""
    from acmix_bench.ops.native import build

    compiler = shutil.which("g++")
    if not compiler:
        session.skip("g++ is not here")
    widest = build.WIDTHS[build.instructions()]
    widths = [width for width in build.WIDTHS.values() if width <= widest]
    flags = ["-std=c++17", "-O1", "-g", "-march=native", "-fopenmp"]
    flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover"]
    with tempfile.TemporaryDirectory() as folder:
        for (scalar, size), width in itertools.product({"float": 4, "double": 8}.items(), widths):
            lanes = width // size
            program = str(Path(folder) / f"{scalar}{lanes}")
            sizes = [f"-DSCALAR={scalar}", f"-DLANES={lanes}", "-Iacmix_bench/ops/native"]
            session.run(compiler, *flags, *sizes, "tests/ops/sanitize.cpp", "-o", program, external=True)
            session.run(program, external=True)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site of docs/ into build/site, in an environment of its own; a warning or a dead link is an error."""
    environment, site = Path(".nox") / "docs", Path("build") / "site"
    python = str(environment / "bin" / "python")
    if not environment.exists():
        session.run(sys.executable, "-m", "venv", str(environment), external=True)
    session.run(python, "-m", "pip", "install", "--quiet", "--editable", ".[docs]", external=True)
    shutil.rmtree(site, ignore_errors=True)
    sphinx = ("--quiet", "--fail-on-warning", "--keep-going", "--jobs", "auto", "--conf-dir", "docs")
    session.run(python, "-m", "sphinx", *sphinx, ".", str(site), external=True)
    session.run(python, "docs/check_site.py", str(site), external=True)
    session.log(f"open {site / 'index.html'}")


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
def regress(session: nox.Session) -> None:
    """Measure a git reference and the working tree alternately: `nox -s regress -- --base REF`.

    The reference is checked out and installed in an environment of its own, which is kept for the next time. What
    follows `--base REF` goes to `acmix-bench regress`. Exit code 3 is a regression.
    """
    parser = argparse.ArgumentParser(prog="nox -s regress --", allow_abbrev=False)
    parser.add_argument("--base", required=True, help="a git reference: a branch, a tag or a commit")
    chosen, arguments = parser.parse_known_args(session.posargs)
    command = ["git", "rev-parse", "--verify", "--quiet", f"{chosen.base}^{{commit}}"]
    commit = subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
    if not commit:
        session.error(f"'{chosen.base}' is no commit of this repository")
    tree, environment = Path(".nox/base/tree"), Path(".nox/base/venv")
    if not tree.exists():
        session.run("git", "worktree", "prune", external=True)
        session.run("git", "worktree", "add", "--detach", str(tree), commit, external=True)
    session.run("git", "-C", str(tree), "checkout", "--quiet", "--detach", commit, external=True)
    python, needs = environment / "bin" / "python", (tree / "pyproject.toml").read_text()
    installed = environment / "pyproject.toml"
    if not installed.exists() or installed.read_text() != needs:
        session.run(sys.executable, "-m", "venv", "--clear", str(environment), external=True)
        session.run(str(python), "-m", "pip", "install", "--quiet", "--editable", str(tree), external=True)
        installed.write_text(needs)
    command = [sys.executable, "-m", "acmix_bench", "regress", "--base", str(python), *arguments]
    ended = subprocess.run(command, check=False).returncode
    if ended:
        meaning = {2: "a mistake", 3: "a regression", 4: "not comparable", 5: "nothing was measured"}
        session.log(f"exit code {ended}: {meaning.get(ended, 'it failed')}")
        sys.exit(ended)


@nox.session
def bench(session: nox.Session) -> None:
    """Time the operator with pytest-benchmark, keep the history, and show the change since the last time."""
    history = ["--benchmark-autosave"]
    if any(Path(".benchmarks").glob("*/*.json")):
        history.append("--benchmark-compare")
    session.run(sys.executable, "-m", "pytest", "tests/benchmarks", "--benchmark-only", *history, *session.posargs)
