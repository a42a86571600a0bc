"""Good files of each kind that is read, and what may stand in their place: spoiled, no file at all, or a bomb."""

from __future__ import annotations

import io
import json
import os
import pickle
import socket
import struct
import zipfile
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from package import ROOT
from PIL import Image

from acmix_bench.backbones.weights import build

WORDS = dict.fromkeys(("question", "source", "command", "time", "expected"), "a test")


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
        "nested": ("recipes.yaml", b"a: " + b"[" * 10_000),
        "nested blocks": ("thresholds.yaml", "".join(" " * n + "a:\n" for n in range(1200)).encode()),
        "digits": ("experiments.yaml", (words + "image_size: " + "9" * 5000).encode()),
        "seeds": ("experiments.yaml", (words + "protocol: {seeds: 1000000000000}").encode()),
        "tag": ("variants.yaml", b"!!python/object/apply:os.mkdir [ran]"),
        "long line": ("variants.yaml", b"a" * 2**20 + b": 1"),
        "header of 10 GB": ("weights.safetensors", struct.pack("<Q", 10 * 10**9) + b"{}" + bytes(100)),
        "tensor of 4 TB": ("weights.safetensors", struct.pack("<Q", len(head)) + head),
        "packed tensors": ("weights.pth", repacked(good, "/data/0", bytes(2**27))),
        "packed names": ("weights.pth", repacked(good, "data.pkl", bytes(2**27))),
        "code": ("weights.pth", pickle.dumps(Code())),
        "code in CIFAR": ("data_batch_1", pickle.dumps(Code())),
        "code in a checkpoint": ("last.ckpt", pickle.dumps(Code())),
        "long text": ("data_batch_1", b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"a."),
        "a picture of 10 gigapixels": ("picture.png", png(100_000, 100_000, zlib.compress(bytes(10_000)))),
        "a packed comment": (
            "picture.png",
            png(1, 1, zlib.compress(b"\0\0"), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**27)))),
        ),
        "a program": ("picture.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"),
        "2 billion digits": ("train-images-idx3-ubyte", struct.pack(">IIII", 0x803, 2**31 - 1, 28, 28)),
    }  # fmt: skip
