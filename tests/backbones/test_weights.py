"""The released checkpoints: names, shapes and outputs, against an independent statement of the released forward."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from released import DEPTHS, HEADS, SWIN_DEPTHS, SWIN_HEADS, WINDOW, State, resnet_state, swin_state
from safetensors.torch import load_file, save_file
from torch import Tensor

from acmix_bench.backbones import saved, weights
from acmix_bench.backbones.released import head_of
from acmix_bench.errors import UserError


def resnet_forward(s: State, x: Tensor) -> Tensor:
    """The released ResNet-ACmix, from its formulas, in the released names."""

    def bn(x: Tensor, name: str) -> Tensor:
        mean, variance = s[f"{name}.running_mean"], s[f"{name}.running_var"]
        return F.batch_norm(x, mean, variance, s[f"{name}.weight"], s[f"{name}.bias"])

    x = F.max_pool2d(bn(F.conv2d(x, s["conv1.weight"], stride=2, padding=3), "bn1").relu(), 3, 2, 1)
    for stage, depth in enumerate(DEPTHS, start=1):
        for block in range(depth):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and not block else 1
            out = bn(F.conv2d(x, s[f"{at}.conv1.weight"]), f"{at}.bn1").relu()
            out = bn(acmix_forward(s, f"{at}.conv2", out, stride), f"{at}.bn2").relu()
            out = bn(F.conv2d(out, s[f"{at}.conv3.weight"]), f"{at}.bn3")
            if not block:
                x = bn(F.conv2d(x, s[f"{at}.downsample.0.weight"], stride=stride), f"{at}.downsample.1")
            x = (x + out).relu()
    return x.mean((2, 3)) @ s["fc.weight"].T + s["fc.bias"]


def acmix_forward(s: State, at: str, x: Tensor, stride: int) -> Tensor:
    """One operator, tap by tap: windows of shifted maps, both sums written out."""
    q, k, v = (F.conv2d(x, s[f"{at}.conv{n}.weight"], s[f"{at}.conv{n}.bias"]) for n in (1, 2, 3))
    batch, channels, height, width = q.shape
    d, pad = channels // HEADS, WINDOW // 2
    columns = torch.linspace(-1, 1, width, dtype=x.dtype).expand(height, width)
    rows = torch.linspace(-1, 1, height, dtype=x.dtype)[:, None].expand(height, width)
    p = F.conv2d(torch.stack([columns, rows])[None], s[f"{at}.conv_p.weight"], s[f"{at}.conv_p.bias"])
    padded_k, padded_v, padded_p = (F.pad(t, [pad] * 4, mode="reflect") for t in (k, v, p))

    def tap(t: Tensor, dy: int, dx: int) -> Tensor:
        moved = t[:, :, dy : dy + height : stride, dx : dx + width : stride]
        return moved.unflatten(1, (-1, d))

    q_here, p_here = (t[:, :, ::stride, ::stride].unflatten(1, (-1, d)) for t in (q, p))
    taps = [(dy, dx) for dy in range(WINDOW) for dx in range(WINDOW)]
    scores = [(q_here * (tap(padded_k, *t) + p_here - tap(padded_p, *t))).sum(2) / d**0.5 for t in taps]
    shares = torch.stack(scores).softmax(0)
    attended = sum(share[:, :, None] * tap(padded_v, *t) for share, t in zip(shares, taps, strict=True)).flatten(1, 2)

    heads = torch.cat([t.view(batch, HEADS, d, height, width) for t in (q, k, v)], dim=1)
    maps = torch.einsum("mi,biehw->bemhw", s[f"{at}.fc.weight"][:, :, 0, 0], heads)
    convolved = F.conv2d(maps.flatten(1, 2), s[f"{at}.dep_conv.weight"], stride=stride, padding=1, groups=d)
    return s[f"{at}.rate1"] * attended + s[f"{at}.rate2"] * convolved


def swin_forward(s: State, x: Tensor) -> Tensor:
    """The released Swin-T-ACmix at 224, from its formulas, in the released names."""

    def layer_norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], s[f"{name}.weight"], s[f"{name}.bias"])

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, s[f"{name}.weight"], s.get(f"{name}.bias"))

    x = F.conv2d(x, s["patch_embed.proj.weight"], s["patch_embed.proj.bias"], stride=4).permute(0, 2, 3, 1)
    x = layer_norm(x, "patch_embed.norm")
    for stage, (depth, heads) in enumerate(zip(SWIN_DEPTHS, SWIN_HEADS, strict=True)):
        for block in range(depth):
            at = f"layers.{stage}.blocks.{block}"
            shift = 3 if block % 2 and stage < 3 else 0
            rolled = layer_norm(x, f"{at}.norm1").roll((-shift, -shift), (1, 2))
            mixed = window_forward(s, f"{at}.attn", rolled, heads, shift)
            x = x + mixed.roll((shift, shift), (1, 2))
            x = x + linear(F.gelu(linear(layer_norm(x, f"{at}.norm2"), f"{at}.mlp.fc1")), f"{at}.mlp.fc2")
        if stage < 3:
            corners = [x[:, dy::2, dx::2] for dx in (0, 1) for dy in (0, 1)]
            at = f"layers.{stage}.downsample"
            x = linear(layer_norm(torch.cat(corners, -1), f"{at}.norm"), f"{at}.reduction")
    return linear(layer_norm(x, "norm").mean((1, 2)), "head")


def window_forward(s: State, at: str, x: Tensor, heads: int, shift: int) -> Tensor:
    """Every window by itself; pixels that the roll brought together from different sides do not see each other."""
    batch, height, width, channels = x.shape
    d = channels // heads
    qkv = F.linear(x, s[f"{at}.qkv.weight"], s[f"{at}.qkv.bias"])

    slots = qkv.view(batch, height, width, 3 * heads, d)
    maps = torch.einsum("mi,bhwie->bemhw", s[f"{at}.fc.weight"][:, :, 0, 0], slots)
    maps = maps + s[f"{at}.fc.bias"][:, None, None]
    convolved = F.conv2d(maps.flatten(1, 2), s[f"{at}.dep_conv.weight"], padding=1, groups=d).permute(0, 2, 3, 1)

    side = [0 if i < height - 7 or not shift else 1 if i < height - shift else 2 for i in range(height)]
    table = s[f"{at}.relative_position_bias_table"]
    pixels = [(y, x_) for y in range(7) for x_ in range(7)]
    index = torch.tensor([[(a - c + 6) * 13 + b - e + 6 for c, e in pixels] for a, b in pixels])
    bias = table[index].permute(2, 0, 1)
    attended = torch.zeros_like(x)
    for y in range(0, height, 7):
        for x_ in range(0, width, 7):
            window = qkv[:, y : y + 7, x_ : x_ + 7].reshape(batch, 49, 3, heads, d).permute(2, 0, 3, 1, 4)
            region = torch.tensor([3 * side[y + dy] + side[x_ + dx] for dy, dx in pixels])
            apart = -100.0 * (region[:, None] != region[None, :]).to(x.dtype)
            share = ((window[0] * d**-0.5) @ window[1].mT + bias + apart).softmax(-1)
            attended[:, y : y + 7, x_ : x_ + 7] = (share @ window[2]).transpose(1, 2).reshape(batch, 7, 7, channels)
    projected = F.linear(attended, s[f"{at}.proj.weight"], s[f"{at}.proj.bias"])
    return s[f"{at}.rate1"] * projected + s[f"{at}.rate2"] * convolved


CASES = {
    "resnet26-acmix@128": (resnet_state, resnet_forward, 128),
    "swin-t-acmix": (swin_state, swin_forward, 224),
}


@pytest.mark.parametrize("model", CASES)
@pytest.mark.parametrize("nest", ["", "model", "state_dict"])
def test_released_weights_give_the_released_outputs(model: str, nest: str, tmp_path: Path) -> None:
    make, forward, size = CASES[model]
    released = make()
    saved = {f"module.{name}": tensor for name, tensor in released.items()} if nest else released
    torch.save({nest: saved, "epoch": 3} if nest else saved, tmp_path / "released.pth")
    count, told = weights.import_weights(tmp_path / "released.pth", model, tmp_path / "ours.safetensors")
    network = weights.build(model)
    network.load_state_dict(load_file(tmp_path / "ours.safetensors"))
    assert (count, told) == (len(network.state_dict()), f"from '{nest}'" if nest else "")
    x = torch.randn(1, 3, size, size)
    with torch.no_grad():
        ours, theirs = network.eval()(x), forward(released, x)
        assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()
        exact = {name: tensor.double() for name, tensor in released.items()}
        ours, theirs = network.double()(x.double()), forward(exact, x.double())
        assert (ours - theirs).abs().max() < 1e-10 * theirs.abs().max()


def test_weights_that_do_not_fit_are_told_apart_and_nothing_is_written(tmp_path: Path) -> None:
    state = resnet_state()
    del state["fc.bias"]
    state["extra.weight"] = torch.zeros(1)
    del state["layer1.0.conv2.conv3.weight"]
    state["fc.weight"] = torch.zeros(10, 1024)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(UserError) as error:
        weights.import_weights(tmp_path / "odd.pth", "resnet26-acmix", tmp_path / "out.safetensors")
    assert str(error.value).endswith(
        "does not fit the model; surplus: extra.weight; missing: layer1.0.conv2.conv3.weight, fc.bias; "
        "wrong shape: fc.weight is 10x1024 instead of 1000x2048"
    )
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["odd.pth"]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("model", "make"),
    [
        ("swin-t", lambda: timm.create_model("swin_tiny_patch4_window7_224")),
        ("resnet50", torchvision.models.resnet50),
        ("resnet26-acmix", lambda: weights.build("resnet26-acmix")),
    ],
)
def test_names_of_today_are_taken_too(model: str, make, suffix: str, tmp_path: Path) -> None:
    """timm's and torchvision's own, and those of this package."""
    theirs = make().state_dict()
    path = tmp_path / f"theirs{suffix}"
    save_file(theirs, path) if suffix == ".safetensors" else torch.save(theirs, path)
    weights.import_weights(path, model, tmp_path / "ours.safetensors")
    ours = load_file(tmp_path / "ours.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_is_missing_of_names_of_today_is_told_by_them(tmp_path: Path) -> None:
    state = timm.create_model("swin_tiny_patch4_window7_224").state_dict()
    del state["head.fc.bias"]
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(UserError, match=r"does not fit the model; missing: head\.fc\.bias$"):
        weights.import_weights(tmp_path / "odd.pth", "swin-t", tmp_path / "out.safetensors")
    torch.save({f"x{number}": torch.zeros(1) for number in range(100)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"surplus: .* 90 more; missing: .* more$"):
        weights.import_weights(tmp_path / "other.pth", "swin-t", tmp_path / "out.safetensors")


def test_a_destination_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    torch.save(resnet_state(), tmp_path / "released.pth")
    (tmp_path / "folder").mkdir()
    for out in ("nowhere/x.safetensors", "folder"):
        with pytest.raises(UserError, match="cannot be written"):
            weights.import_weights(tmp_path / "released.pth", "resnet26-acmix", tmp_path / out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "released.pth"]


def released(changes: dict[str, Tensor | None], path: Path) -> Path:
    state = resnet_state() | changes
    torch.save({name: tensor for name, tensor in state.items() if tensor is not None}, path)
    return path


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused_by_name(odd: float, tmp_path: Path) -> None:
    bias = torch.zeros(1000)
    bias[7] = odd
    path = released({"fc.bias": bias}, tmp_path / "odd.pth")
    with pytest.raises(UserError, match=r"odd\.pth: holds NaN or infinite values in fc\.bias$"):
        weights.import_weights(path, "resnet26-acmix", tmp_path / "out.safetensors")
    with pytest.raises(UserError, match="holds NaN or infinite values"):
        weights.load_weights(weights.build("resnet26-acmix"), path)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_head_of_other_classes_is_told_or_left_out(tmp_path: Path) -> None:
    path = released({"fc.weight": torch.zeros(10, 2048), "fc.bias": torch.zeros(10)}, tmp_path / "ten.pth")
    with pytest.raises(
        UserError, match=r"ten\.pth: has a head of 10 classes \(fc\.weight\), and the model one of 1000;"
    ):
        weights.import_weights(path, "resnet26-acmix", tmp_path / "out.safetensors")
    model = weights.build("resnet26-acmix", classes=7)
    head = {name: tensor.clone() for name, tensor in model.fc.state_dict().items()}
    weights.load_weights(model, path, new_head=True)
    assert all(torch.equal(model.fc.state_dict()[name], head[name]) for name in head)
    assert torch.equal(model.conv1.weight, resnet_state()["conv1.weight"])
    with pytest.raises(UserError, match=r"missing: conv1\.weight"):  # the head alone may be new
        weights.load_weights(model, released({"conv1.weight": None}, tmp_path / "less.pth"), new_head=True)
    weights.load_weights(model, released({"fc.weight": None, "fc.bias": None}, tmp_path / "none.pth"), new_head=True)


@pytest.mark.parametrize("model", ["nano-acmix", "san10-acmix", "pvt-t", "swin-t-acmix", "resnet26"])
def test_the_head_is_what_has_the_classes(model: str) -> None:
    network = weights.build(model, classes=13)
    names = head_of(network)
    assert [network.state_dict()[name].shape[0] for name in names] == [13, 13]


def test_weights_of_another_model_are_refused_though_they_fit(tmp_path: Path) -> None:
    """But not for a name that means the same, or for another size of image."""
    path, model = tmp_path / "w.safetensors", weights.build("nano-acmix")
    saved.save_weights(model.state_dict(), path, {"model": "nano-acmix@28"})
    for name in ("nano-acmix", "nano-acmix@14", ""):
        weights.load_weights(model, path, model_name=name)
    with pytest.raises(UserError, match=r"holds weights of nano-acmix@28, not of nano-attention-only$"):
        weights.load_weights(model, path, model_name="nano-attention-only")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """In a process that may write files of a few bytes only."""
    code = """
import resource, signal, sys, torch
from pathlib import Path
from acmix_bench.backbones.saved import save_weights
from acmix_bench.errors import UserError
path = Path(sys.argv[1])
save_weights({"a": torch.zeros(2)}, path, {})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
try:
    save_weights({"a": torch.ones(1000)}, path, {})
except UserError as error:
    print(error)
"""
    path = tmp_path / "w.safetensors"
    told = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout
    assert told == f"{path}: cannot be written (File too large); the one before is intact\n"
    assert torch.equal(load_file(path)["a"], torch.zeros(2))
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
