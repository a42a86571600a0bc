"""Commands for weights: import-weights, predict, evaluate."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acmix_bench import backbones
from acmix_bench.cli import complete
from acmix_bench.cli.common import JsonOption, OneModelArgument, OneVariantOption, SetOption, note, only_cell
from acmix_bench.errors import UserError

if TYPE_CHECKING:
    from acmix_bench.report.table.grid import Table
    from acmix_bench.spec.cell import Cell
    from acmix_bench.tasks.classify import Scores

ModelOption = Annotated[
    str,
    typer.Option("--model", "-m", help="BACKBONE-VARIANT, such as swin-t-acmix.", autocompletion=complete.models),
]
WeightsOption = Annotated[
    Path,
    typer.Option(
        "--weights", "-w", help="What import-weights or a training wrote, or a checkpoint that import-weights takes."
    ),
]


def import_weights(
    source: Annotated[
        Path, typer.Argument(help="A checkpoint, .pth or .safetensors: the released code's, timm's or torchvision's.")
    ],
    model: ModelOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="The safetensors file to write.")],
) -> None:
    """Turn a released checkpoint into weights of ours. Tensors only: no code of the file runs.

    Example: acmix-bench import-weights acmix_swin_tiny.pth --model swin-t-acmix --out swin-t-acmix.safetensors
    """
    from acmix_bench.backbones import weights

    count, told = weights.import_weights(source, model, out)
    print(f"{count} tensors in {out}" + (f" ({told})" if told else ""))


def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images to classify, or to draw on.")],
    model: ModelOption,
    weights: WeightsOption,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the drawings of a model that segments or detects.")
    ] = None,
) -> None:
    """Print the five most likely classes of each image, or draw label maps, or boxes and masks, over it as PNG.

    An image that cannot be read is told on stderr and holds up no other; the exit code is then 1.

    \b
    Examples:
      acmix-bench predict --model swin-t-acmix --weights swin-t-acmix.safetensors cat.jpg
      acmix-bench predict --model pvt-s-acmix+mask-rcnn@800x1333 --weights coco.safetensors cat.jpg --out drawn
    """
    row = backbones.find_model(model)
    if row.case.head and out is None:
        raise UserError(f"{model}: say with --out in which folder its drawings go")
    failed = 0
    if out is not None:
        from acmix_bench.runs.drawing import draw

        for drawn in draw(row, weights, images, out):
            failed += bool(drawn.problem)
            if drawn.problem:
                note(f"error: {drawn.problem}")
            else:
                print(f"{drawn.out}: {drawn.found}", flush=True)
    else:
        from acmix_bench.backbones.predict import predict as classify

        for answer in classify(model, weights, images):
            if answer.problem:
                failed += 1
                note(f"error: {answer.problem}")
                continue
            print(answer.path)
            for name, probability in answer.classes:
                print(f"  {100 * probability:6.2f} %  {name}", flush=True)
    if failed:
        note(f"{failed} of {len(images)} images have no answer")
        raise typer.Exit(1)


def evaluate(
    weights: WeightsOption,
    model: OneModelArgument = None,
    variant: OneVariantOption = None,
    place: Annotated[
        str | None,
        typer.Option("--data", "-d", help="The data set; what the weights were trained on where not given."),
    ] = None,
    settings: SetOption = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="Print top-1 of every class too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Score weights on the test images of a data set: top-1, top-5, cross-entropy and calibration.

    Images are resized and cropped as in the training that wrote the weights; for others as in the backbone's paper.
    --set image_size=, crop= and interpolation= change that.

    \b
    Examples:
      acmix-bench evaluate resnet50 --weights resnet50-11ad3fa6.pth --data imagenet --set data_root=/data
      acmix-bench evaluate swin-t-acmix --weights swin-t-acmix.safetensors --set crop=1 --set device=cuda
      acmix-bench evaluate nano-acmix --weights runs/digits/best.safetensors --per-class
    """
    from acmix_bench import ablate as flow
    from acmix_bench.backbones.saved import description_of
    from acmix_bench.cli.terminal import show
    from acmix_bench.runs.scoring import score

    name, chosen = _as_trained(
        model, [*(settings or []), *([f"data={place}"] if place else [])], description_of(weights)
    )
    row, experiment = flow.row_to_train(name, variant, chosen)
    cell = only_cell(row, experiment)
    scores, splits, told = score(cell, weights, batch=experiment.protocol.batch)
    for line in (told and f"weights {told} in {weights}", splits.told):
        if line:
            note(line)
    if isinstance(scores, dict):
        _show_dense(cell, scores, as_json=as_json)
        return
    names = splits.class_names or [str(number) for number in range(len(scores.by_class))]
    classes = [{"class": n, "right": r, "images": i} for n, (r, i) in zip(names, scores.by_class, strict=True)]
    if as_json:
        more = {"classes": classes} if per_class else {}
        print(json.dumps(_numbers(cell, weights, scores) | more, indent=1, ensure_ascii=False))
        return
    is_ready = hasattr(splits.test[0][0], "shape")
    show([_table(cell, scores, is_ready=is_ready), *([_class_table(classes)] if per_class else [])])


def _show_dense(cell: Cell, scores: dict[str, float | None], *, as_json: bool) -> None:
    """The numbers of a dense task, a line each."""
    from acmix_bench.cli.terminal import show
    from acmix_bench.report.table.grid import Table

    if as_json:
        print(json.dumps({"model": cell.row.label, "data": cell.row.case.data} | scores, indent=1))
        return
    rows = [[name, "-" if value is None else f"{100 * value:.2f}"] for name, value in scores.items()]
    show([Table(title=f"{cell.row.label} on {cell.row.case.data}", header=["score", "%"], rows=rows)])


def _as_trained(model: str | None, settings: list[str], told: dict[str, str]) -> tuple[str | None, list[str]]:
    """A model's name and the settings, over what its weights tell of their images, over its paper's recipe."""
    given = {setting.partition("=")[0]: setting.partition("=")[2] for setting in settings}
    keys = ("interpolation", "crop", "data", "image_size")
    known = {key: told[key] for key in keys if key in told and key not in given}
    if "recipe" in given:
        known = {key: value for key, value in known.items() if key in ("data", "image_size")}
    if model is None:
        return None, [*(f"{key}={value}" for key, value in known.items()), *settings]
    case = backbones.find_model(model).case
    recipe, size = backbones.find(case.backbone).recipe, given.get("image_size") or known.pop("image_size", "")
    known.pop("image_size", None)
    has_size = re.search(r"@[^/:]*$", model)
    if has_size and "image_size" in given:
        raise UserError(f"{model} has its size behind an @; leave out --set image_size={size}")
    rest = [setting for setting in settings if not setting.startswith("image_size=")]
    name = model if has_size or size in ("", str(case.image_size)) else f"{model}@{size}"
    return name, [f"recipe={recipe}", *(f"{key}={value}" for key, value in known.items()), *rest]


def _numbers(cell: Cell, weights: Path, scores: Scores) -> dict[str, object]:
    """All that `--json` gives but for the classes."""
    case, protocol = cell.row.case, cell.protocol
    told = {"model": cell.row.label, "weights": str(weights), "data": case.data, "image_size": case.image_size}
    names = ("images", "top1", "top5", "cross_entropy", "calibration_error")
    return (
        told
        | {key: protocol[key] for key in ("crop", "interpolation", "dtype")}
        | {name: getattr(scores, name) for name in names}
    )


def _table(cell: Cell, scores: Scores, *, is_ready: bool) -> Table:
    """The scores; `is_ready` where the data set gives images at their size, which nothing crops."""
    from acmix_bench.report.table.grid import Table

    case, protocol = cell.row.case, cell.protocol
    share = f"the middle {100 * protocol['crop']:g} % of an edge, resized with {protocol['interpolation']}"
    crop = "" if is_ready else f", {share}"
    top5 = "-" if scores.top5 is None else f"{100 * scores.top5:.2f}"
    return Table(
        title=f"{cell.row.label} on {case.data}",
        header=["model", "images", "top-1 %", "top-5 %", "calibration\nerror %", "cross-\nentropy"],
        rows=[
            [
                cell.row.label,
                f"{scores.images:,}",
                f"{100 * scores.top1:.2f}",
                top5,
                f"{100 * scores.calibration_error:.2f}",
                f"{scores.cross_entropy:.4f}",
            ]
        ],
        notes=[
            f"Images of {case.image_size}x{case.image_size}{crop}; {protocol['dtype']} on {protocol['device']}.",
            "Calibration error: how far confidence is from the share of right answers, in 15 bins, weighted by images.",
        ],
    )


def _class_table(classes: list[dict[str, object]]) -> Table:
    from acmix_bench.report.table.grid import Table

    rows = []
    for told in classes:
        right, images = int(str(told["right"])), int(str(told["images"]))
        rows.append([str(told["class"]), str(images), f"{100 * right / images:.2f}" if images else "-"])
    return Table(title="By class", header=["class", "images", "top-1 %"], rows=rows)
