"""What a backbone, a meter and an axis promise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from acmix_bench import backbones, data, heads, meters
from acmix_bench.backbones.build import build, operators
from acmix_bench.backbones.features import STRIDES, Features
from acmix_bench.meters.subject import Subject
from acmix_bench.runs.contract import Broken, NotPromised, Promise, tried
from acmix_bench.runs.local import outcome_of
from acmix_bench.spec import library
from acmix_bench.spec.cell import read_by
from acmix_bench.spec.experiment import Protocol
from acmix_bench.spec.recipe import DenseRecipe
from acmix_bench.spec.variant import Variant
from acmix_bench.tasks import Job, find
from acmix_bench.train.batches import moved

HEADS = {"segment": "semantic-fpn", "detect": "retinanet"}  # that a meter of such a task is tried on
QUICK = Protocol(threads=1, batch=4, seconds=0.02, epochs=1, train_batch=256)


def of_backbone(name: str) -> Iterator[Promise]:
    """Try a backbone with its own operator and with ACmix."""
    entry, single = backbones.find(name), backbones.is_single_operator(name)
    images = data.find(entry.data)
    size = entry.image_size
    channels = int(name.removeprefix("operator-")) if single else images.channels

    def built(variant: str) -> nn.Module:
        torch.manual_seed(0)
        sizes = {"in_channels": images.channels, "num_classes": images.classes, "image_size": size}
        return build(name, library.load_variant(variant), **sizes).eval()

    def run(variant: str, batch: int) -> str:
        x = torch.randn(batch, channels, size, size)
        with torch.no_grad():
            out = built(variant)(x)
        wanted = (batch, channels, size, size) if single else (batch, images.classes)
        if not isinstance(out, Tensor) or tuple(out.shape) != wanted:
            raise Broken(f"{tuple(x.shape)} must give {wanted}, and gave {tuple(getattr(out, 'shape', ()))}")
        if not out.isfinite().all():
            raise Broken("it gave values that are not finite")
        return f"{tuple(x.shape)} to {wanted}"

    def takes_the_operator() -> str:
        found = len(operators(built("acmix")))
        if not found:
            raise Broken("it builds none of the operator that it is given")
        return f"{found} of the operator that it is given"

    def gradients() -> str:
        model = built("acmix").train()
        model(torch.randn(2, channels, size, size)).square().mean().backward()
        wrong = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        if wrong:
            raise Broken(f"no finite gradient reaches {', '.join(wrong[:5])}")
        return "finite, of every parameter"

    def one_seed() -> str:
        ours, theirs = built("acmix").state_dict(), built("acmix").state_dict()
        if any(not torch.equal(ours[key], theirs[key]) for key in ours):
            raise Broken("two that are built from one seed differ")
        return "one seed, one network"

    def stages() -> str:
        if not entry.stages:
            raise NotPromised("it names no stages, so it gives no feature maps")
        model, x = built("plain"), torch.randn(1, channels, size, size)
        given: list[Tensor] = []
        features = Features(model, name)
        for module, _ in entry.stages:
            model.get_submodule(module).register_forward_hook(lambda *call: given.append(call[2]))
        with torch.no_grad():
            model(x)
            whole, given = given, []
            maps = features(x)
        for (module, _), one, other in zip(entry.stages, whole, given, strict=True):
            if one.shape == other.shape and not one.allclose(other, atol=1e-5):  # a class token may leave them apart
                raise Broken(f"'{module}' gives another map in the whole model: its modules do not run as they stand")
        shapes = [tuple(one.shape[1:]) for one in maps]
        wanted = [(width, size // by, size // by) for (_, width), by in zip(entry.stages, STRIDES, strict=True)]
        if shapes != wanted:
            raise Broken(f"the maps of its stages must be {wanted}, and are {shapes}")
        return " ".join("x".join(map(str, shape)) for shape in shapes)

    yield tried("as published", lambda: run("plain", 2))
    yield tried("with ACmix", lambda: run("acmix", 2))
    yield tried("batch of 1", lambda: run("acmix", 1))
    yield tried("operator", takes_the_operator)
    yield tried("gradients", gradients)
    yield tried("seed", one_seed)
    yield tried("stages", stages)


def of_head(name: str) -> Iterator[Promise]:
    """Try a head on the small pyramid, on scenes of digits."""
    case = backbones.case_of("nano-pyramid", head=name, data=f"scenes-{heads.find(name).task}")
    subject = Subject(variant=library.load_variant("plain"), case=case, protocol={}, seed=0)
    splits, classes = data.load(case.data, case.image_size, ""), data.find(case.data).classes
    job = Job(
        recipe=DenseRecipe(),
        image_size=case.image_size,
        size=case.input_size,
        classes=classes,
        seed=0,
        plan={},
        autocast=nullcontext,
    )
    task = find(subject.task)

    def learns() -> str:
        prepare, loss_of, model = task.transform(job, splits, trains=True), task.losses(job), subject.build_to_train()
        batch = moved(task.collate([prepare(*splits.train[number]) for number in range(2)]), next(model.parameters()))
        optimizer, losses = torch.optim.SGD(model.train().parameters(), 1e-3), []
        for _ in range(4):
            torch.manual_seed(0)
            optimizer.zero_grad()
            loss = loss_of(model, batch)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        if min(losses[1:]) >= losses[0]:
            raise Broken(f"its loss does not fall: {', '.join(f'{one:.4g}' for one in losses)}")
        return f"the loss falls from {losses[0]:.4g} to {min(losses):.4g} in three steps"

    def answers() -> str:
        test = task.transform(job, splits, trains=False)
        batches = [task.collate([test(*splits.test[number]) for number in range(2)])]
        scores = task.evaluate(subject.build_to_train().eval(), batches, job)
        return f"answers that have a {next(iter(scores))}"

    def network() -> str:
        with torch.no_grad():
            out = subject.build().eval()(torch.randn(1, 3, *case.input_size))
        if not isinstance(out, tuple) or not all(isinstance(one, Tensor) for one in out):
            raise Broken("network(images) must give a tuple of tensors")
        return f"{len(out)} tensors"

    yield tried("training", learns)
    yield tried("answers", answers)
    yield tried("network", network)


def of_meter(name: str) -> Iterator[Promise]:
    """Try a meter on a small backbone with ACmix and with a plain convolution."""
    entry = meters.find(name)
    protocol = read_by(name, QUICK)

    def subject(variant: str) -> Subject:
        case = backbones.case_of("nano", image_size=16)
        if entry.task in HEADS:
            case = backbones.case_of("nano-pyramid", head=HEADS[entry.task], data=f"scenes-{entry.task}")
        return Subject(variant=library.load_variant(variant), case=case, protocol=protocol, seed=0)

    def measure(variant: str) -> dict[str, Any]:
        if entry.is_timing:
            step = entry.measure(subject(variant), 2)
            for part in step if isinstance(step, tuple) else (step,):
                part()
            return {}
        outcome = outcome_of(entry.measure(subject(variant)), name=name)
        if outcome.status != "ok":
            raise Broken(outcome.reason or outcome.status)
        return outcome.values

    def gives(variant: str) -> str:
        values = measure(variant)
        if entry.is_timing:
            return "a step that runs"
        told = []
        for metric in entry.metrics:
            numbers = metric.numbers(values)
            if not numbers or not all(isinstance(number, int | float) for number in numbers.values()):
                raise Broken(f"its values hold no number under '{metric.key}', but {json.dumps(values)[:60]}")
            told.append(f"{metric.key} {sum(numbers.values()):g}")
        return ", ".join(told) or "values"

    def again() -> str:
        if entry.repeats != "once":
            raise NotPromised(f"it repeats over {entry.repeats}, and may have noise")
        if measure("acmix") != measure("acmix"):
            raise Broken("it gave other values the second time; a meter with noise repeats over seeds or processes")
        return "the same twice"

    yield tried("with ACmix", lambda: gives("acmix"))
    yield tried("with a convolution", lambda: gives("conv3x3"))
    yield tried("determinism", again)


def of_axis(name: str) -> Iterator[Promise]:
    """Try every value of an axis on the nano backbone."""
    axis = library.own_axis(name)
    parent = library.load_variant("acmix")

    def built(variant: Variant) -> nn.Module:
        torch.manual_seed(0)
        return build("nano", variant, in_channels=1, num_classes=10, image_size=16).eval()

    def value(chosen: Any) -> str:
        (variant,) = library.expand(f"{name}={chosen}", parent)
        x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            out, before = built(variant)(x), built(parent)(x)
        if tuple(out.shape) != tuple(before.shape):
            raise Broken(f"it changes the output from {tuple(before.shape)} to {tuple(out.shape)}")
        if variant.content() == parent.content():
            return "the default: nothing changes"
        ours, theirs = ([tuple(p.shape) for p in built(v).parameters()] for v in (variant, parent))
        if torch.equal(out, before) and ours == theirs:
            raise Broken("it changes neither what comes out nor the parameters")
        return variant.label(parent)

    yield tried("declared", lambda: f"{len(axis.values)} values, {axis.values[0]} the default")
    for chosen in axis.values:
        yield tried(f"{name}={chosen}", partial(value, chosen))
