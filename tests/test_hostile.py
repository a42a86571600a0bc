"""Files that nobody should be given, at every place that reads one: a right reading or one short line, and no more."""

from __future__ import annotations

import json
import random
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_meter import answer
from hostile_files import SPECIAL, bombs, make, spoiled, valid
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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

MOST = settings().max_examples
mutating = settings(max_examples=MOST // 2, suppress_health_check=[HealthCheck.function_scoped_fixture])
a_few = settings(mutating, max_examples=MOST // 5)  # of what takes tens of milliseconds
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


@pytest.mark.parametrize("name", bombs())
def test_what_would_grow_or_run_does_neither(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kind, content = bombs()[name]
    path = place(tmp_path, kind)
    path.write_bytes(content)
    lines = [told(read) for read in readers(path)[kind] if not (isinstance(read, partial) and read.func is look)]
    assert all(lines)
    assert not name.startswith("packed") or "is packed" in lines[-1]  # by what reads the tensors
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
