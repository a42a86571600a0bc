"""Files that nobody should be given, at every place that reads one: a right reading or one short line, and no more."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import resource
import signal
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_meter import answer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from package import ROOT
from PIL import Image
from typer.testing import CliRunner

from acmix_bench import ablate, data
from acmix_bench.analysis.thresholds import load_thresholds
from acmix_bench.backbones.predict import predict
from acmix_bench.backbones.saved import save_weights
from acmix_bench.backbones.weights import build, import_weights
from acmix_bench.cli import app
from acmix_bench.data.pictures import read_picture
from acmix_bench.data.scan import look
from acmix_bench.errors import LONGEST, UserError
from acmix_bench.runs.store import Store
from acmix_bench.spec import library
from acmix_bench.train import checkpoint

mutating = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
a_few = settings(mutating, max_examples=max(8, settings().max_examples // 4))  # of what takes tens of milliseconds
WORDS = dict.fromkeys(("question", "source", "command", "time", "expected"), "a test")
SECONDS, MIB = 30, 700  # that one reading may take at most, on a machine that does other things


@contextmanager
def bounded() -> Iterator[None]:
    """Nothing waits for ever, and nothing fills the memory."""

    def give_up(*_: object) -> None:
        raise AssertionError(f"no end within {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, give_up)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < MIB * 1024


def told(call: Callable[[], object]) -> str:
    """The line that a call ends with; empty where it can read what it is given. Whatever else it raises is a fault."""
    with bounded():
        try:
            call()
        except UserError as error:
            line = str(error)
            assert line.isprintable()
            assert 0 < len(line) <= LONGEST + 10
            return line
    return ""


def command(*arguments: object) -> None:
    """A command as a user gives it, in this process."""
    ended = CliRunner().invoke(app, list(map(str, arguments)))
    if ended.exception and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    assert ended.exit_code in (0, 1, 3, 4, 5), ended.output


@cache
def valid() -> dict[str, bytes]:
    """One good file of each kind."""
    found = {"weights.safetensors": b"", "weights.pth": b"", "old.pth": b"", "last.ckpt": b""}
    state = build("nano-acmix").state_dict()
    with io.BytesIO() as file:
        torch.save({"state_dict": state}, file)
        found["weights.pth"] = file.getvalue()
    with io.BytesIO() as file:
        torch.save(state, file, _use_new_zipfile_serialization=False)
        found["old.pth"] = file.getvalue()
    with io.BytesIO() as file:
        torch.save({"plan": {"seed": 0}, "progress": {"update": 1}, "model": state}, file)
        found["last.ckpt"] = file.getvalue()
    drawn = Image.effect_mandelbrot((32, 32), (-2, -1.5, 1, 1.5), 20)
    for form in ("png", "jpeg", "tiff", "gif", "bmp", "webp", "ppm"):
        with io.BytesIO() as file:
            drawn.convert("RGB").save(file, form)
            found[f"picture.{form}"] = file.getvalue()
    found["data_batch_1"] = pickle.dumps({"data": [0], "labels": [0]})
    found["train-images-idx3-ubyte"] = struct.pack(">IIII", 0x803, 2, 4, 4) + bytes(32)
    for kind, name in (("variants", "acmix"), ("experiments", "paths"), ("recipes", "resnet")):
        found[f"{kind}.yaml"] = (ROOT / kind / f"{name}.yaml").read_bytes()
    found["thresholds.yaml"] = b"default: {inference: 0.1}\nrows: {baseline: {training: 0.2}}\n"
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run, of which a file is spoiled."""
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    experiment = library.load_experiment("smoke")
    plan = ablate.plan_of(experiment, ablate.rows_of(experiment))
    ablate.ablate(plan, Store(folder), measure=answer, misfits=lambda *_: {})
    return folder


def readers(path: Path) -> dict[str, list[Callable[[], object]]]:
    """What reads a file of each kind, through the entry that a user has."""
    picture = path.parent / "a.png"
    if not picture.exists():
        picture.write_bytes(valid()["picture.png"])
    weights: list[Callable[[], object]] = [
        lambda: list(predict("nano-acmix", path, [picture])),
        partial(import_weights, path, "nano-acmix", path.parent / "out.safetensors"),
    ]
    pictures: list[Callable[[], object]] = [partial(read_picture, path), partial(read_picture, path, 1)]
    pictures.append(partial(look, str(path)))
    return {
        "variants.yaml": [
            partial(library.load_variant, str(path)),
            partial(command, "ablate", "--dry-run", "-v", path),
        ],
        "experiments.yaml": [partial(command, "ablate", "--dry-run", "-e", path)],
        "recipes.yaml": [partial(command, "ablate", "--dry-run", "--set", f"recipe={path}")],
        "thresholds.yaml": [partial(load_thresholds, path, ["baseline"])],
        "weights.safetensors": weights,
        "weights.pth": weights,
        "old.pth": weights,
        "last.ckpt": [partial(checkpoint.load, path, {"seed": 0})],
        **{kind: pictures for kind in valid() if kind.startswith("picture.")},
        "data_batch_1": [partial(data.load, "cifar10", 32, str(path.parent.parent))],
        "train-images-idx3-ubyte": [partial(data.load, "mnist", 28, str(path.parent.parent.parent))],
    }


def place(folder: Path, kind: str) -> Path:
    """Where a file of this kind is looked for."""
    below = {"data_batch_1": "cifar-10-batches-py", "train-images-idx3-ubyte": "MNIST/raw"}.get(kind, kind)
    (folder / below).mkdir(parents=True, exist_ok=True)
    return folder / below / kind


ODD = [
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\xe9", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\x1b[31m"),
    *(b"NaN", b"-Infinity", b"1e999", b"9" * 400, b"-1", b"0", b"null", b"true", b"[]", b"{}", b'""', b"[" * 3000),
    *(b"&a [*a, *a]", b"!!python/name:os.system x", b"!!int x", b"<<: 1\n", b"? [a]\n: 1\n", b"\n", b"'", b'"'),
]  # fmt: skip


@st.composite
def spoiled(draw: st.DrawFn, whole: bytes) -> bytes:
    """A good file that was cut, or changed in a few places: bytes, or whole words of it."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, max(0, len(content) - 1)))
        end = min(len(content), start + draw(st.sampled_from([0, 1, 1, 2, 8, 100])))
        how = draw(st.sampled_from(["cut", "word", "byte", "odd", "twice"]))
        if how == "cut":
            del content[start:]
        elif how == "word":  # the value that stands there
            stop = min((at for c in b",:]}\n" if (at := content.find(c, start + 1)) > 0), default=len(content))
            begin = max(content.rfind(c, 0, start + 1) for c in b",:[{ \n") + 1
            content[begin:stop] = draw(st.sampled_from(ODD))
        elif how == "byte":
            content[start:end] = draw(st.binary(min_size=end - start, max_size=end - start))
        elif how == "odd":
            content[start:end] = draw(st.sampled_from(ODD))
        else:
            content[start:start] = content[start : start + 200]
    return bytes(content)


@pytest.mark.parametrize("kind", valid())
@mutating
@given(source=st.data())
def test_a_spoiled_file_is_read_or_refused_in_a_line(kind: str, source: st.DataObject, tmp_path: Path) -> None:
    path = place(tmp_path, kind)
    path.write_bytes(source.draw(spoiled(valid()[kind])))
    for read in readers(path)[kind]:
        told(read)


@pytest.mark.parametrize("name", ["run.json", "records.jsonl"])
@a_few
@given(source=st.data())
def test_a_spoiled_run_is_shown_or_refused_in_a_line(
    name: str, source: st.DataObject, run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "smoke"
    folder.mkdir(exist_ok=True)
    for file in ("run.json", "records.jsonl"):
        content = (run / file).read_bytes()
        (folder / file).write_bytes(source.draw(spoiled(content)) if file == name else content)
    for view in (("table", folder), ("table", folder, "--format", "csv"), ("compare", run, folder, "--allow-unlike")):
        told(partial(command, *view))
    told(partial(command, "merge", folder, run, "--out", tmp_path / "no" / str(random.random())))


def changed(value: Any, draw: st.DrawFn) -> Any:
    """JSON with one of its values put in the place of another kind."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        inner = value.copy()
        inner[key] = changed(value[key], draw)
        return inner
    return draw(st.sampled_from([None, True, 0, -1, 1e308, 10**30, "", "a\nb", "0.5", [], {}, [[]], {"a": {}}, [None]]))


@a_few
@given(source=st.data())
def test_values_that_are_no_meters_are_left_out(source: st.DataObject, run: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    number = source.draw(st.integers(0, len(lines) - 1))
    lines[number]["values"] = changed(lines[number]["values"], source.draw)
    folder = tmp_path / "smoke"
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_bytes((run / "run.json").read_bytes())
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for view in (
        ("table", folder),
        ("table", folder, "--format", "json"),
        ("compare", run, folder),
        ("compare", folder, run),
    ):
        told(partial(command, *view))


SPECIAL = ["pipe", "folder", "socket", "/dev/zero", "/dev/urandom", "/dev/null", "loop", "gone", "huge", "empty", "nul"]


def make(what: str, path: Path) -> None:
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "socket":
        before = Path.cwd()
        os.chdir(path.parent)  # the path of a socket is short
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
        os.chdir(before)
    elif what.startswith("/"):
        path.symlink_to(what)
    elif what in ("loop", "gone"):
        path.symlink_to(path.name if what == "loop" else "not-there")
    else:
        path.write_bytes(b"\0" * 1000 if what == "nul" else b"")
        if what == "huge":
            os.truncate(path, 2**40)


@pytest.mark.parametrize("what", SPECIAL)
def test_what_is_no_file_is_refused_in_a_line(what: str, tmp_path: Path) -> None:
    for kind in valid():
        path = place(tmp_path, kind)
        make(what, path)
        for read in readers(path)[kind]:
            assert told(read) or (isinstance(read, partial) and read.func is look), f"{kind} was read"


@pytest.mark.parametrize("what", SPECIAL)
@pytest.mark.parametrize("name", ["run.json", "records.jsonl", "torn.jsonl"])
def test_what_is_no_file_in_a_run_keeps_nobody_waiting(what: str, name: str, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "smoke"
    folder.mkdir()
    for file in {"run.json", "records.jsonl"} - {name}:
        cut = -40 if name == "torn.jsonl" and file == "records.jsonl" else None
        (folder / file).write_bytes((run / file).read_bytes()[:cut])
    make(what, folder / name)
    experiment = library.load_experiment("smoke")
    plan = ablate.plan_of(experiment, ablate.rows_of(experiment))
    for use in (
        partial(command, "table", folder),
        lambda: ablate.ablate(plan, Store(folder), measure=answer, misfits=lambda *_: {}),
    ):
        if not (what in ("/dev/zero", "/dev/urandom") and name == "torn.jsonl"):
            told(use)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, content: bytes, *more: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", head), *more, chunk(b"IDAT", content), chunk(b"IEND", b"")])


def repacked(whole: bytes, part: str, content: bytes) -> bytes:
    """An archive of torch with other content in one of its parts, packed."""
    with io.BytesIO() as file:
        with zipfile.ZipFile(io.BytesIO(whole)) as before, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as after:
            for name in before.namelist():
                after.writestr(name, content if name.endswith(part) else before.read(name))
        return file.getvalue()


class Code:
    """What a pickle would run."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


@cache
def bombs() -> dict[str, tuple[str, bytes]]:
    """Small files that stand for much: the kind that each passes for, and its content."""
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    laughs += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    words = "".join(f"{key}: {word}\n" for key, word in WORDS.items())
    variant = "summary: s\nclaim: c\noperator: mine.py:X\noptions:\n"
    good = valid()["weights.pth"]
    head = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    return {
        "aliases": ("variants.yaml", (variant + "".join(f"  {line}\n" for line in laughs.splitlines())).encode()),
        "merged aliases": ("experiments.yaml", (words + laughs + "variants: *a11\n").encode()),
        "holds itself": ("variants.yaml", (variant + "  a: &a [*a]\n").encode()),
        "nested": ("recipes.yaml", b"a: " + b"[" * 100_000),
        "nested blocks": ("thresholds.yaml", "".join(" " * n + "a:\n" for n in range(1200)).encode()),
        "digits": ("experiments.yaml", (words + "image_size: " + "9" * 5000).encode()),
        "seeds": ("experiments.yaml", (words + "protocol: {seeds: 1000000000000}").encode()),
        "tag": ("variants.yaml", b"!!python/object/apply:os.mkdir [ran]"),
        "long line": ("variants.yaml", b"a" * 2**20 + b": 1"),
        "header of 10 GB": ("weights.safetensors", struct.pack("<Q", 10 * 10**9) + b"{}" + bytes(100)),
        "tensor of 4 TB": ("weights.safetensors", struct.pack("<Q", len(head)) + head),
        "packed tensors": ("weights.pth", repacked(good, "/data/0", bytes(2**28))),
        "packed names": ("weights.pth", repacked(good, "data.pkl", bytes(2**28))),
        "code": ("weights.pth", pickle.dumps(Code())),
        "code in CIFAR": ("data_batch_1", pickle.dumps(Code())),
        "code in a checkpoint": ("last.ckpt", pickle.dumps(Code())),
        "long text": ("data_batch_1", b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"a."),
        "a picture of 10 gigapixels": ("picture.png", png(100_000, 100_000, zlib.compress(bytes(10_000)))),
        "a packed comment": (
            "picture.png",
            png(1, 1, zlib.compress(b"\0\0"), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**28)))),
        ),
        "a program": ("picture.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"),
        "2 billion digits": ("train-images-idx3-ubyte", struct.pack(">IIII", 0x803, 2**31 - 1, 28, 28)),
    }  # fmt: skip


@pytest.mark.parametrize("name", bombs())
def test_what_would_grow_or_run_does_neither(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kind, content = bombs()[name]
    path = place(tmp_path, kind)
    path.write_bytes(content)
    for read in readers(path)[kind]:
        assert told(read) or (isinstance(read, partial) and read.func is look)
    assert not Path("ran").exists()


TOLD = {
    "classes": ["{", "[" * 5000, "3", '"abc"', "[1]"],
    "mean": ["x", "3", "[NaN]", "[1, 2]", '["a"]'],
    "deviation": ["[0, 0, 0]", "[-1]", "null"],
    "image_size": ["x", "-1", "9" * 5000, "1e9"],
    "crop": ["x", "nan", "2"],
    "interpolation": ["x"],
    "model": ["a\nb"],
}


@pytest.mark.parametrize(("key", "text"), [(key, text) for key, texts in TOLD.items() for text in texts])
def test_what_weights_tell_of_themselves_is_checked(key: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    known = {"data": "folder:x", "classes": json.dumps(["a"] * 10), "mean": "[0.5]", "deviation": "[1]"}
    save_weights(build("nano-acmix").state_dict(), path, known | {key: text})
    assert told(readers(path)["weights.safetensors"][0])


@pytest.mark.parametrize(("key", "text"), [*(("data", t) for t in ("folder:\0", "x\ny", "no.py:X")), ("crop", "nan")])
def test_what_weights_tell_of_themselves_sets_nothing_unchecked(key: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(build("nano-acmix").state_dict(), path, {key: text})
    assert told(partial(command, "evaluate", "nano-acmix", "--weights", path))


def test_half_a_character_in_a_reason_stops_no_sweep() -> None:
    """As the name of a file that is no UTF-8 has it."""
    from acmix_bench.runs.local import outcome_of

    outcome = outcome_of(FileNotFoundError(2, "No such file", "caf\udce9"), name="params")
    assert outcome.reason is not None
    assert outcome.reason.endswith("'caf\\udce9'")
    json.dumps(outcome.values, ensure_ascii=False).encode()
    assert outcome_of({"parameters": 1, "told": "\udce9"}, name="params").values["told"] == "\\udce9"
