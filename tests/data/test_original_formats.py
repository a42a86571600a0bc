"""CIFAR, MNIST and Fashion-MNIST in their authors' files."""

from __future__ import annotations

import http.server
import os
import pickle
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from layouts import cifar, mnist
from torchvision.datasets import CIFAR10

from acmix_bench import data
from acmix_bench.errors import UserError


def refused(name: str, root: Path, download: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        data.load(name, 8, str(root), download)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(root), "ROOT")


@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_is_read_from_its_pickled_batches(classes: int, tmp_path: Path) -> None:
    cifar(tmp_path, classes)
    splits = data.load(f"cifar{classes}", 32, str(tmp_path))
    assert (len(splits.train), len(splits.test)) == ((50 if classes == 10 else 10), 10)
    image, label = splits.test[3]
    assert (image.mode, image.size, image.getpixel((31, 0)), label) == ("RGB", (32, 32), (200, 3, 3), 21 % classes)
    assert len(splits.class_names) == classes == data.find(f"cifar{classes}").classes
    assert len(splits.mean) == len(splits.deviation) == 3


@pytest.mark.parametrize(("name", "place"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_mnist_is_read_from_its_idx_files(name: str, place: str, tmp_path: Path) -> None:
    mnist(tmp_path, place, each=30)
    splits = data.load(name, 28, str(tmp_path))
    assert len(splits.train) == len(splits.test) == 30
    image, label = splits.train[13]
    assert (image.mode, image.size, image.getpixel((0, 0)), label) == ("L", (28, 28), 13, 3)
    assert len(splits.class_names) == 10
    assert len(splits.mean) == 1


def test_files_that_are_not_there_are_named_with_what_to_do(tmp_path: Path) -> None:
    for name, file in (
        ("cifar10", "cifar-10-batches-py/data_batch_1"),
        ("cifar100", "cifar-100-python/train"),
        ("mnist", "MNIST/raw/train-images-idx3-ubyte"),
        ("fashion-mnist", "FashionMNIST/raw/train-images-idx3-ubyte"),
    ):
        told = refused(name, tmp_path)
        assert told.startswith(f"ROOT/{file}: no such file")
        assert f"DATA_ROOT/{file.rpartition('/')[0]}/" in told
        assert "train --download" in told
    raw = mnist(tmp_path)
    images = raw / "t10k-images-idx3-ubyte"
    images.rename(images.with_name(f"{images.name}.gz"))
    assert "t10k-images-idx3-ubyte: no such file; unpack the .gz beside it" in refused("mnist", tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "MNIST"], "nothing was made"


def test_broken_files_are_named(tmp_path: Path) -> None:
    batches, raw = cifar(tmp_path, 10), mnist(tmp_path)
    whole = (batches / "data_batch_3").read_bytes()

    good = pickle.loads(whole, encoding="latin1")

    def batch(**changed: object) -> bytes:
        return pickle.dumps(good | changed)

    for content, told in (
        (whole[:5000], "is no whole batch"),
        (b"", "is no whole batch"),
        (batch(data=np.zeros((10, 3072), np.float32)), "rows of 3072 bytes"),
        (batch(data=np.zeros((10, 784), np.uint8)), "rows of 3072 bytes"),
        (batch(labels=[1]), "a number from 0 to 9 for each image"),
        (batch(labels=[10] * 10), "a number from 0 to 9 for each image"),
    ):
        (batches / "data_batch_3").write_bytes(content)
        said = refused("cifar10", tmp_path)
        assert said.startswith("ROOT/cifar-10-batches-py/data_batch_3: ")
        assert told in said
    for file, content, told in (
        ("train-images-idx3-ubyte", (raw / "train-images-idx3-ubyte").read_bytes()[:-9], "is no whole idx file"),
        ("t10k-labels-idx1-ubyte", b"\x00\x00\x08\x01\x00\x00\x00\x02\x01\x01", "holds 2 labels for 10 images"),
        ("t10k-labels-idx1-ubyte", b"\x00\x00\x08\x01\x00\x00\x00\x0a" + bytes(range(5, 15)), "labels from 0 to 9"),
        ("t10k-labels-idx1-ubyte", b"", "is no whole idx file"),
    ):
        before = (raw / file).read_bytes()
        (raw / file).write_bytes(content)
        assert f"ROOT/MNIST/raw/{file}: " in refused("mnist", tmp_path)
        assert told in refused("mnist", tmp_path)
        (raw / file).write_bytes(before)


class Harmful:
    def __reduce__(self) -> object:
        return os.system, ("touch harmed",)


def test_no_code_of_a_batch_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    batches = cifar(tmp_path, 10)
    for name in ("data_batch_5", "batches.meta"):
        cifar_file = batches / name
        before = cifar_file.read_bytes()
        cifar_file.write_bytes(pickle.dumps({"data": Harmful()}))
        assert "and no code of it is run" in refused("cifar10", tmp_path)
        assert not (tmp_path / "harmed").exists()
        cifar_file.write_bytes(before)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """A server of this machine, for there is no other in tests: the address of what lies in tmp_path."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_download_is_torchvisions_and_its_failure_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: str
) -> None:
    cifar(tmp_path / "archive", 10)
    shutil.make_archive(str(tmp_path / "cifar"), "gztar", tmp_path / "archive")
    monkeypatch.setattr(CIFAR10, "url", f"{site}/cifar.tar.gz")
    monkeypatch.setattr(CIFAR10, "tgz_md5", None)
    root = tmp_path / "new" / "root"
    assert len(data.load("cifar10", 32, str(root), download=True).train) == 50
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:1/nowhere.tar.gz")
    assert len(data.load("cifar10", 32, str(root), download=True).train) == 50, "it is there already"
    told = refused("cifar10", tmp_path / "other", download=True)
    assert told == "ROOT: CIFAR-10 cannot be downloaded (<urlopen error [Errno 111] Connection refused>)"
    monkeypatch.setattr(CIFAR10, "url", f"{site}/cifar.tar.gz")
    monkeypatch.setattr(CIFAR10, "tgz_md5", "of another archive")
    assert "cannot be downloaded (File not found or corrupted" in refused("cifar10", tmp_path / "third", download=True)
    assert "that can are cifar10, cifar100, mnist, fashion-mnist" in refused("digits", tmp_path, download=True)
