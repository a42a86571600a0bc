"""Building the C++ kernels: once for a machine, at first use, into the user's cache.

No headers but the compiler's own are needed, and no torch: the library has a plain C interface. There is one for each
number type and vector width, since a map whose heads have 8 channels is better served by vectors of 8 than of 16.

The cache is $ACMIX_BENCH_CACHE, or acmix-bench in $XDG_CACHE_HOME or ~/.cache. A library's name is a hash of the
sources, the flags, and all that the compiler says of itself and of this CPU, so what is found there is what would be
built.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

SOURCES = sorted(path for path in Path(__file__).parent.iterdir() if path.suffix in (".cpp", ".h"))
# Not -ffast-math: loading such a library flushes small numbers to zero in the whole process.
FLAGS = ("-std=c++17", "-O2", "-march=native", "-fopenmp", "-fPIC", "-shared", "-fvisibility=hidden")
SECONDS = 300  # after which a build is given up
WIDTHS = {"AVX-512": 64, "AVX2": 32, "NEON": 16}  # bytes of a vector
MACROS = {
    "AVX-512": ("__AVX512F__", "__AVX512VL__", "__AVX512DQ__"),
    "AVX2": ("__AVX2__", "__FMA__"),
    "NEON": ("__ARM_NEON", "__aarch64__"),
}


class CannotBuild(Exception):
    """Why there is no library, in one line."""


@cache
def compiler() -> str:
    """The C++ compiler: $CXX, or the first of the usual names.

    Raises:
        CannotBuild: where there is none.
    """
    for name in filter(None, (os.environ.get("CXX"), "g++", "clang++", "c++")):
        found = shutil.which(name)
        if found:
            return found
    raise CannotBuild("no C++ compiler (g++ or clang++) is on the PATH")


@cache
def _predefined() -> str:
    """What the compiler predefines for this CPU, its own version among it."""
    command = [compiler(), "-march=native", "-dM", "-E", "-x", "c++", os.devnull]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotBuild(f"{compiler()} does not run: {error}") from error


@cache
def instructions() -> str:
    """The vector instructions that are used: the widest of `WIDTHS` that this CPU has.

    Raises:
        CannotBuild: where there is no compiler, or none of them.
    """
    macros = set(re.findall(r"#define (\w+)", _predefined()))
    for name, needed in MACROS.items():
        if macros.issuperset(needed):
            return name
    raise CannotBuild(f"this CPU has none of {', '.join(WIDTHS)}")


def told() -> str:
    """What the kernels are built with and for, or why there are none, in a few words."""
    try:
        version = re.search(r'#define __VERSION__ "([^"]*)"', _predefined())
        return f"{instructions()}, {Path(compiler()).name} {version[1].split()[0] if version else ''}".strip()
    except CannotBuild as error:
        return f"none ({error})"


def registers() -> int:
    """Vector registers, as vectors.h has them."""
    return 16 if instructions() == "AVX2" else 32


def lanes_for(depth: int, item_bytes: int) -> int:
    """Numbers in a vector for heads of `depth` channels: the most that divide them.

    Raises:
        CannotBuild: where not even four divide them (two of float64), or nothing can be built.
    """
    lanes = WIDTHS[instructions()] // item_bytes
    while lanes * item_bytes > 16 and depth % lanes:
        lanes //= 2
    if depth % lanes:
        raise CannotBuild(f"heads of {depth} channels do not divide into vectors of {lanes}")
    return lanes


@cache
def load(scalar: str, lanes: int) -> ctypes.CDLL:
    """The library for numbers of type `scalar` (float or double) in vectors of `lanes`; built where it is missing.

    Raises:
        CannotBuild: where it cannot be built. This is told on stderr once, and remembered in the cache.
    """
    defined = (f"-DSCALAR={scalar}", f"-DLANES={lanes}")
    said = [_predefined(), *FLAGS, *defined, *(path.read_text() for path in SOURCES)]
    key = hashlib.sha256("\0".join(said).encode()).hexdigest()[:24]
    folder = cache_folder()
    library, failed = folder / f"native-{key}.so", folder / f"native-{key}.failed"
    try:
        if not library.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with _one_at_a_time(folder / f"native-{key}.lock"):
                if failed.exists():
                    raise CannotBuild(f"its build failed before: {failed} says why; delete it to try again")
                if not library.exists():
                    _build(library, failed, defined)
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise CannotBuild(f"{library}: {error}") from error


def cache_folder() -> Path:
    """Where libraries are kept."""
    ours = os.environ.get("ACMIX_BENCH_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(ours) if ours else Path(shared) / "acmix-bench"


def _build(library: Path, failed: Path, defined: tuple[str, ...]) -> None:
    print(f"acmix-bench builds its native operator ({' '.join(defined)}), once: up to a minute", file=sys.stderr)
    handle, name = tempfile.mkstemp(dir=library.parent, suffix=".so")
    os.close(handle)
    made = Path(name)
    command = [compiler(), *FLAGS, *defined, str(Path(__file__).with_name("kernels.cpp")), "-o", name]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS)
        made.replace(library)
    except (OSError, subprocess.SubprocessError) as error:
        failed.write_text(f"{' '.join(command)}\n{error}\n{getattr(error, 'stderr', '')}")
        print(f"acmix-bench: the build failed, so torch's operations run instead; {failed} says why", file=sys.stderr)
        raise CannotBuild(f"its build failed: {failed} says why") from error
    finally:
        made.unlink(missing_ok=True)


@contextmanager
def _one_at_a_time(lock: Path) -> Iterator[None]:
    """Hold a lock that a process gives up when it ends, however it ends."""
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
