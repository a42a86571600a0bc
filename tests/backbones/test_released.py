"""Checkpoints as people have them: nested, wrapped, old, broken, and what is no checkpoint."""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from released import State, resnet_state
from safetensors.torch import save_file
from torch import nn

from acmix_bench.backbones.released import read_checkpoint, released_to_ours
from acmix_bench.backbones.weights import build
from acmix_bench.errors import UserError


class Payload:
    """What an attacker would put into a pickle."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch owned",)


class Config(dict):
    """What the released Swin stores beside its weights: a class that the reader does not have."""


class Node(dict):
    """A configuration with attributes of its own, as yacs' nodes have."""

    def __init__(self, content: dict[str, object], *, frozen: bool) -> None:
        super().__init__(content)
        self.frozen = frozen


@pytest.mark.parametrize(
    "beside",
    [
        Config(a=1),
        Node({"a": Node({"b": 2}, frozen=True)}, frozen=True),
        np.float64(81.9),
        np.arange(3),
        Path("a/b"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_stands_beside_the_weights_is_passed_over(beside: object, tmp_path: Path) -> None:
    torch.save({"model": resnet_state(), "beside": beside}, tmp_path / "full.pth")
    assert len(read_checkpoint(tmp_path / "full.pth").state) == len(resnet_state())


def test_files_of_old_torch_are_read(tmp_path: Path) -> None:
    old = {name: tensor for name, tensor in resnet_state().items() if "num_batches" not in name}
    torch.save(old, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    ours = released_to_ours(read_checkpoint(tmp_path / "old.pth").state, build("resnet26-acmix"), where="")
    assert ours.keys() == build("resnet26-acmix").state_dict().keys()


@pytest.mark.parametrize("content", [torch.zeros(3), [torch.zeros(3)], {"epoch": 3}], ids=["tensor", "list", "number"])
def test_files_without_named_tensors_are_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(UserError, match="holds no tensors by name"):
        read_checkpoint(tmp_path / "odd.pth")


def test_no_code_of_a_checkpoint_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": resnet_state(), "payload": Payload()}, "evil.pth")
    with pytest.raises(UserError, match="holds code that is refused"):
        read_checkpoint(Path("evil.pth"))
    assert not Path("owned").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02}q\x00."])
def test_files_that_are_no_checkpoints(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.pth: (is an empty file|is not a checkpoint|holds no tensors)"):
        read_checkpoint(tmp_path / "bad.pth")
    with pytest.raises(UserError, match="cannot be read"):
        read_checkpoint(tmp_path / "none.pth")


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def named(state: State, before: str) -> State:
    return {before + name: tensor for name, tensor in state.items()}


def assert_read(content: object, path: Path, told: str = "") -> None:
    """That a file of `content` gives the weights of `small`, and tells where they stood."""
    torch.save(content, path)
    model, found = small(), read_checkpoint(path)
    assert found.told == told
    ours = released_to_ours(found.state, model, where="here")
    assert all(torch.equal(ours[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "model.", "module.backbone.model."]
)
def test_prefixes_that_all_names_share_are_taken_off(prefix: str, tmp_path: Path) -> None:
    assert_read(named(small().state_dict(), prefix), tmp_path / "w.pth")


def test_compiled_parts_of_a_model_are_read(tmp_path: Path) -> None:
    state = {name.replace("0.", "0._orig_mod."): tensor for name, tensor in small().state_dict().items()}
    assert_read(state, tmp_path / "w.pth")


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state", "network", "whatever", "state_dict_ema", "ema"])
def test_weights_are_found_under_any_key(key: str, tmp_path: Path) -> None:
    assert_read({key: small().state_dict(), "epoch": torch.tensor(3)}, tmp_path / "w.pth", f"from '{key}'")
    deep = {"checkpoint": {key: small().state_dict()}, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3, 4)}}}}
    assert_read(deep, tmp_path / "w.pth", f"from 'checkpoint.{key}'")


@pytest.mark.parametrize("average", ["model_ema", "state_dict_ema", "ema", "averaged", "a_ema"])
def test_weights_are_taken_and_not_their_average(average: str, tmp_path: Path) -> None:
    other = {name: tensor + 1 for name, tensor in small().state_dict().items()}
    file = {average: other, "model": small().state_dict()}
    assert_read(file, tmp_path / "w.pth", f"from 'model', not '{average}'")
    assert_read(small().state_dict() | {average: other}, tmp_path / "w.pth", f"not '{average}'")


def test_what_optimizers_keep_is_no_weights(tmp_path: Path) -> None:
    """Even where it is kept by name, and more of it."""
    kept = {f"{name}.{key}": tensor for name, tensor in small().state_dict().items() for key in ("m", "v", "n")}
    assert_read({"optimizer": kept, "net": small().state_dict()}, tmp_path / "w.pth", "from 'net'")


def test_what_other_tools_count_is_passed_over(tmp_path: Path) -> None:
    counted = {f"{at}{name}": torch.zeros(1) for at in ("", "0.", "1.") for name in ("total_ops", "total_params")}
    state = small().state_dict() | counted
    assert_read(state, tmp_path / "w.pth")
    average = torch.optim.swa_utils.AveragedModel(small()).state_dict()
    assert_read(average, tmp_path / "w.pth")


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before torch 1.6"])
def test_a_namespace_beside_the_weights_is_passed_over(new: bool, tmp_path: Path) -> None:
    beside = argparse.Namespace(arch="resnet", lr=0.1, more=argparse.Namespace(a=[1, 2]))
    file = {"args": beside, "state_dict": small().state_dict(), "best": np.float64(3)}
    torch.save(file, tmp_path / "w.pth", _use_new_zipfile_serialization=new)
    assert read_checkpoint(tmp_path / "w.pth").state.keys() == small().state_dict().keys()


class Runs:
    """What an attacker would put into a pickle, of a module that torch does not block."""

    def __reduce__(self) -> tuple[object, tuple[list[str]]]:
        return subprocess.check_call, (["touch", "owned"],)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before torch 1.6"])
def test_no_function_of_a_checkpoint_is_called(new: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = {"model": small().state_dict(), "payload": Runs()}
    torch.save(file, "evil.pth", _use_new_zipfile_serialization=new)
    assert read_checkpoint(Path("evil.pth")).state.keys() == small().state_dict().keys()
    assert not Path("owned").exists()


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
@pytest.mark.parametrize("kind", ["zip", "before torch 1.6", "safetensors"])
def test_a_download_cut_short_is_told_as_such(kind: str, share: float, tmp_path: Path) -> None:
    path, state = tmp_path / "w.pth", torchvision.models.resnet18(num_classes=2).state_dict()
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"w\.pth: is cut short or damaged; download or copy it again$"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"", "an empty file"),
    ],
)
def test_what_was_saved_in_place_of_a_checkpoint_is_told(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=f"is {told}"):
        read_checkpoint(tmp_path / "w.safetensors")


def test_a_model_saved_as_an_object_is_told(tmp_path: Path) -> None:
    for content in (small(), {"model": small(), "epoch": 3}):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(
            UserError, match=r"holds a model as an object, whose code would run; save its state_dict\(\)"
        ):
            read_checkpoint(tmp_path / "w.pth")


def test_the_kind_of_file_is_read_off_its_content(tmp_path: Path) -> None:
    save_file(small().state_dict(), tmp_path / "w.pth")
    torch.save(small().state_dict(), tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        assert read_checkpoint(tmp_path / name).state.keys() == small().state_dict().keys()


def test_messages_stay_short_and_name_what_names_share() -> None:
    model = build("resnet26-acmix", classes=2)
    state = {f"encoder.{name}": tensor for name, tensor in model.state_dict().items()} | {"x" * 5000: torch.zeros(1)}
    with pytest.raises(UserError) as error:
        released_to_ours(state, model, where="w.pth")
    told = str(error.value)
    assert len(told) < 1500
    assert told.startswith("w.pth: does not fit the model; surplus: encoder.bn1.bias, ")
    del state["x" * 5000]
    state["encoder.0.extra"] = torch.zeros(1)
    for number in range(5):
        state[f"encoder.extra.{number}"] = torch.zeros(1)
    with pytest.raises(UserError, match=r"surplus: 0\.extra, extra\.0, .*extra\.4$"):
        released_to_ours(state, model, where="w.pth")
    other = {f"encoder.blocks.{number}.weight": torch.zeros(1) for number in range(400)}
    with pytest.raises(
        UserError, match=r"surplus: 400 that begin with 'encoder\.', such as encoder\.blocks\.0\.weight;"
    ):
        released_to_ours(other, model, where="w.pth")
