"""Variants and experiments as data: strict loading, labels that cannot lie, keys that hash content."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acmix_bench.errors import UserError
from acmix_bench.spec import library
from acmix_bench.spec.cell import Row, cells_of, groups_of
from acmix_bench.spec.experiment import Case, Protocol
from acmix_bench.spec.variant import AXES, Variant

ACMIX = library.load_variant("acmix")
NANO = Case(backbone="nano", image_size=14, data="digits")
VARIANTS = library.known("variant")
EXPERIMENTS = library.known("experiment")


def write(folder: Path, text: str, name: str = "mine.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", VARIANTS)
def test_variant_loads_and_says_what_it_serves(name: str) -> None:
    variant = library.load_variant(name)
    assert variant.summary
    assert "ACmix" in variant.claim or variant.claim.startswith("speed: none of the paper")
    assert VARIANTS[name].path.read_text().startswith("# ")


@pytest.mark.parametrize("name", sorted(set(VARIANTS) - {"acmix"}))
def test_variant_differs_from_acmix_or_plain_in_one_thing(name: str) -> None:
    parents = (ACMIX, library.load_variant("plain"))
    assert 1 in [library.load_variant(name).label(parent).count("=") for parent in parents]


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if not library.load_experiment(name).models])
def test_experiment_loads_and_its_command_names_it(name: str) -> None:
    experiment = library.load_experiment(name)
    words = shlex.split(experiment.command)
    assert words[:2] == ["acmix-bench", "ablate"]
    assert name == "custom" or words[2:4] == ["--experiment", name]
    rows = library.variant_rows(experiment, NANO)
    assert rows[0].label == "baseline"
    assert len({row.label for row in rows}) == len(rows)


def test_the_paths_experiment_has_its_six_rows() -> None:
    labels = [row.label for row in library.variant_rows(library.load_experiment("paths"), NANO)]
    assert labels == ["baseline", "paths=attention", "paths=conv", "mix=fixed", "mix=alpha", "operator=conv"]


def test_the_shift_experiment_has_its_four_rows() -> None:
    labels = [row.label for row in library.variant_rows(library.load_experiment("shift"), NANO)]
    assert labels == ["baseline", "shift=tensor", "kernel=fixed", "init=random"]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("shift=tensor", ["shift=tensor"]),
        ("shift=tensor,group", ["shift=tensor", "baseline"]),
        ("mix=fixed,alpha,heads=2,8", [f"mix={m},heads={h}" for m in ("fixed", "alpha") for h in (2, 8)]),
        ("paths=both,attention,mix=fixed", ["mix=fixed", "paths=attention"]),
        ("conv3x3", ["operator=conv"]),
        ("operator=torch.nn:Identity", ["operator=torch.nn:Identity"]),
    ],
)
def test_variant_option_makes_rows(text: str, labels: list[str]) -> None:
    assert [variant.label(ACMIX) for variant in library.expand(text, ACMIX)] == labels


@given(
    st.fixed_dictionaries(
        {
            "paths": st.sampled_from(["both", "attention", "conv"]),
            "mix": st.sampled_from(["fixed", "alpha", "alpha-beta"]),
            "shift": st.sampled_from(["tensor", "group"]),
            "kernel": st.sampled_from(["fixed", "learned"]),
            "init": st.sampled_from(["shift", "random"]),
            "heads": st.sampled_from([1, 4, 8]),
            "window": st.sampled_from([3, 7]),
        }
    )
)
def test_a_label_can_be_given_back_as_a_variant(axes: dict[str, object]) -> None:
    variant = Variant(**(ACMIX.model_dump() | axes))
    label = variant.label(ACMIX)
    if label != "baseline":
        (again,) = library.expand(label, ACMIX)
        assert again.content() == variant.content()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("paths=attention,mix=fixed", "mix has no effect with operator=acmix, paths=attention"),
        ("paths=conv,window=3,5", "window has no effect with operator=acmix, paths=conv"),
        ("shift=tensor,kernel=fixed", "kernel has no effect with operator=acmix, paths=both, shift=tensor"),
        ("operator=conv,heads=2", "heads has no effect with operator=conv"),
    ],
)
def test_an_axis_without_effect_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        library.expand(text, ACMIX)


def test_a_file_with_an_axis_without_effect_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="options has no effect"):
        library.load_variant(write(tmp_path, "summary: s\nclaim: c\noptions: {gain: 2}"))


def test_rows_that_are_the_same_variant_appear_once() -> None:
    rows = library.variant_rows(
        library.load_experiment("custom"), NANO, ["shift=tensor", "shift-tensor", "acmix", "shift=tensor"]
    )
    assert [row.label for row in rows] == ["baseline", "shift=tensor"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "summary: s\nclaim: c\nshfit: tensor",
            "unknown key 'shfit'; did you mean 'shift'? (known: shift",
        ),
        (
            "summary: s\nclaim: c\nshift: tensr",
            "shift: unknown value 'tensr'; did you mean 'tensor'? (known: group",
        ),
        ("claim: c", "key 'summary' is missing"),
        ("summary: s\nclaim: c\nheads: many", "heads='many': input should be a valid integer"),
        ("summary: s\nclaim: c\nheads: 0", "heads=0: input should be greater than or equal to 1"),
        ("summary: s\nclaim: c\nwindow: 8", "window=8 is even"),
        ("summary: s\nclaim: c\noperator: acmx", "unknown operator 'acmx'; did you mean 'acmix'?"),
        ("summary: s\nclaim: c\nclaim: d", "line 3: not valid YAML (key 'claim' stands twice)"),
        ("summary: [", "not valid YAML"),
        ("- a list", "holds no keys"),
        ("", "holds no keys"),
    ],
)
def test_a_mistake_in_a_variant_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as error:
        library.load_variant(path)
    assert str(error.value).startswith(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_mistake_deep_in_an_experiment_names_its_key(tmp_path: Path) -> None:
    path = write(tmp_path, EXPERIMENTS["smoke"].path.read_text().replace("epochs", "epoch"))
    with pytest.raises(UserError, match=r"unknown key 'epoch'; did you mean 'epochs'\?"):
        library.load_experiment(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        library.load_variant(str(tmp_path / "none.yaml"))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a text file"):
        library.load_variant(str(tmp_path / "binary.yaml"))
    with pytest.raises(UserError, match=r"unknown variant 'shift-tensr'; did you mean 'shift-tensor'\?"):
        library.load_variant("shift-tensr")


def test_settings_override_protocol_and_case() -> None:
    experiment = library.with_settings(
        library.load_experiment("paths"), ["epochs=7", "image_size=32", "learning_rate=0.1"]
    )
    assert (experiment.protocol.epochs, experiment.image_size, experiment.protocol.learning_rate) == (7, 32, 0.1)
    for wrong, message in (("epoch=1", "did you mean 'epochs'"), ("epochs", "write key=value"), ("seeds=0", "greater")):
        with pytest.raises(UserError, match=message):
            library.with_settings(experiment, [wrong])


def cell_key(variant: Variant = ACMIX, protocol: Protocol | None = None, meter: str = "accuracy", **code: str) -> str:
    row = Row(label="any", variant=variant, case=NANO)
    cells = cells_of([row], [meter], protocol or Protocol(threads=2), lambda *_: "now")
    cell = next(cell for cell in cells if cell.meter == meter)
    return cell.model_copy(update=code).key


def test_a_key_follows_content_and_nothing_else() -> None:
    assert cell_key() == cell_key(ACMIX.model_copy(update={"summary": "another"}))
    assert cell_key() != cell_key(ACMIX.model_copy(update={"mix": "fixed"}))
    assert cell_key() != cell_key(protocol=Protocol(threads=2, epochs=4))
    assert cell_key() != cell_key(protocol=Protocol(threads=1))
    assert cell_key() != cell_key(code="changed")
    assert cell_key() == cell_key(protocol=Protocol(threads=2, batch=5)), "accuracy does not read the timing batch"
    assert cell_key(meter="inference") != cell_key(protocol=Protocol(threads=2, batch=5), meter="inference")


def test_timings_of_one_case_are_one_group() -> None:
    rows = library.variant_rows(library.load_experiment("shift"), NANO)
    other = [row.model_copy(update={"case": NANO.model_copy(update={"image_size": 16})}) for row in rows]
    protocol = Protocol(processes=3, threads=1)
    cells = cells_of([*rows, *other], ["params", "inference"], protocol, lambda *_: "now")
    groups = groups_of(cells)
    assert sorted(len(group) for group in groups) == [1] * 16 + [4] * 6
    assert sorted(cell.key for group in groups for cell in group) == sorted(cell.key for cell in cells)
    for group in groups:
        assert len({(cell.meter, cell.repeat, cell.row.case.image_size) for cell in group}) == 1


def test_a_name_of_mine_comes_first_and_list_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("variants", "experiments"):
        (tmp_path / folder).mkdir()
    (tmp_path / "variants" / "mix-fixed.yaml").write_text("summary: mine\nclaim: none\nheads: 2\n")
    (tmp_path / "experiments" / "study.yaml").write_text(EXPERIMENTS["smoke"].path.read_text())
    known = library.known("variant")
    assert [name for name, file in known.items() if file.is_own] == ["mix-fixed"]
    assert library.load_variant("mix-fixed").heads == 2
    assert library.load_variant("mix-alpha").mix == "alpha"
    assert library.load_experiment("study").name == "study"
    assert library.own_file("experiment", "study") == Path("experiments/study.yaml")
    assert library.own_file("experiment", "smoke") is None
    assert set(known) == set(VARIANTS)


def test_the_folder_that_ships_is_nobodys_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(library.SHIPPED)
    assert not any(file.is_own for kind in library.FOLDERS for file in library.known(kind).values())


def test_a_file_in_the_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "summary: s\nclaim: c\nheads: 2")
    assert library.load_variant("~/mine.yaml").heads == 2


def test_merge_keys_are_yaml(tmp_path: Path) -> None:
    """What << brings in may be overridden; a key that stands twice may not."""
    path = write(
        tmp_path,
        EXPERIMENTS["smoke"].path.read_text().replace("protocol: {", "protocol: {<<: {seeds: 9, batch: 4}, "),
    )
    protocol = library.load_experiment(path).protocol
    assert (protocol.seeds, protocol.batch) == (2, 8)
    path = write(tmp_path, "summary: s\nclaim: c\nclaim: d\n")
    with pytest.raises(UserError, match="key 'claim' stands twice"):
        library.load_variant(path)


@pytest.mark.parametrize("key", ["window", "heads", "kernel_size", "paths", "operator"])
@pytest.mark.parametrize("word", ["true", "no"])
def test_true_is_no_number_and_no_word(tmp_path: Path, key: str, word: str) -> None:
    with pytest.raises(UserError, match=f"{key}=(true|false): is no value of {key}"):
        library.load_variant(write(tmp_path, "{summary: s, claim: c}\n".replace("}", f", {key}: {word}}}", 1)))


def test_true_is_no_number_in_a_protocol_either(tmp_path: Path) -> None:
    text = EXPERIMENTS["smoke"].path.read_text()
    with pytest.raises(UserError, match="seeds=true: is no value of seeds"):
        library.load_experiment(write(tmp_path, text.replace("seeds: 2", "seeds: true")))


def test_an_axis_is_declared_once() -> None:
    """Every field of a variant beside its words is an axis, and everything derives from that."""
    assert list(AXES) == [name for name in Variant.model_fields if name not in ("summary", "claim")]
    assert all(axis.meaning for axis in AXES.values())
    assert {name for name, axis in AXES.items() if axis.decides} == {"operator", "paths", "shift"}
