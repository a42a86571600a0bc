"""Claims are read strictly, and those that ship name what exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from acmix_bench import ablate
from acmix_bench.errors import UserError
from acmix_bench.ops import cost
from acmix_bench.spec import library
from acmix_bench.spec.claim import KINDS, STAGES, load_claims, refuse_unknown

RULE = "{kind: greater, experiment: smoke, row: operator=conv, than: baseline, matters: 0.01, why: so}"
GOOD = f"""
minutes: {{smoke: 1}}
claims:
  mine:
    statement: It is better.
    source: me
    here: on digits
    rules: [{RULE}]
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.yaml"
    file.write_text(text)
    return file


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    claims = load_claims(written(tmp_path, GOOD))
    (claim,) = claims.claims
    assert (claim.name, claims.experiments, claim.rules[0].kind) == ("mine", ("smoke",), "greater")
    assert claim.rules[0].matters == 0.01


SHARE = "{kind: share, experiment: smoke, row: baseline, why: so, "
WRONG = [
    (
        "minutes: {smoke: 1}",
        "minutes: {smoke: soon}",
        "mine.yaml: minutes.smoke='soon': input should be a valid number",
    ),
    ("minutes: {smoke: 1}", "minutes: {smoke: .nan}", "minutes.smoke=nan: input should be"),
    ("minutes: {smoke: 1}", "minutes: {smoke: -1}", "minutes.smoke=-1: input should be greater than 0"),
    ("minutes: {smoke: 1}", "minutes: {}", "minutes: smoke is missing"),
    (
        "minutes: {smoke: 1}",
        "minutes: {smoke: 1, smok: 2}",
        "minutes: unknown experiment 'smok'; did you mean 'smoke'?",
    ),
    ("minutes: {smoke: 1}", "hours: {smoke: 1}", "key 'minutes' is missing"),
    ("statement: It is better.", "statment: It is better.", "mine.yaml: mine: key 'statement' is missing"),
    ("source: me", "source: me\n    sorce: me", "mine.yaml: mine: unknown key 'sorce'; did you mean 'source'?"),
    ("source: me", "source: me\n    name: other", "mine: name: the key above it is the claim's"),
    ("  mine:", "  ' ':", "claims: ' ' is no name"),
    (f"[{RULE}]", "[]", "mine: rules=[]"),
    (f"[{RULE}]", "[greater]", "mine: rule 1: says no kind (known: greater,"),
    ("kind: greater", "kind: grater", "mine: rule 1: unknown kind 'grater'; did you mean 'greater'?"),
    ("kind: greater", "kind: [greater]", "mine: rule 1: unknown kind"),
    ("matters: 0.01", "matters: 0", "mine: rule 1: matters=0: input should be greater than 0"),
    ("matters: 0.01", "matters: yes", "matters=true: is no value of matters"),
    (", why: so", "", "mine: rule 1: key 'why' is missing"),
    ("than: baseline", "than: operator=conv", "mine: rule 1: compares operator=conv with itself"),
    ("than: baseline", "then: baseline", "mine: rule 1: key 'than' is missing"),
    (RULE, f"{SHARE}parts: [attention]}}", "mine: rule 1: say either below or equal"),
    (RULE, f"{SHARE}parts: [atention], below: 1}}", "unknown value 'atention'; did you mean 'attention'?"),
    (RULE, f"{SHARE}parts: [rest, rest], below: 1}}", "mine: rule 1: rest stands twice among the parts"),
    (RULE, f"{SHARE}below: 1}}", "mine: rule 1: compares a count with itself"),
    (
        RULE,
        "{kind: proportional, experiment: smoke, why: so, parts: [stage_1], sizes: {baseline: 2, operator=conv: 2}}",
        "mine: rule 1: sizes: all are 2",
    ),
]


@pytest.mark.parametrize(("right", "wrong", "told"), WRONG, ids=[told for *_, told in WRONG])
def test_what_is_wrong_is_told_in_one_line(right: str, wrong: str, told: str, tmp_path: Path) -> None:
    assert right in GOOD
    with pytest.raises(UserError) as error:
        load_claims(written(tmp_path, GOOD.replace(right, wrong)))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("than: baseline", "than: basline", "claim mine: experiment smoke: unknown row 'basline'; did you mean"),
        ("matters: 0.01", "matters: 0.01, meter: miou", "experiment smoke: unknown meter 'miou'"),
        ("matters: 0.01", "matters: 0.01, meter: inference", "greater cannot read inference"),
        ("kind: greater", "kind: faster, meter: accuracy", "experiment smoke: faster cannot read accuracy"),
    ],
)
def test_names_that_are_not_there_are_told(right: str, wrong: str, told: str, tmp_path: Path) -> None:
    text = GOOD.replace(right, wrong).replace("0.01", "1.1" if "faster" in wrong else "0.01")
    experiment = library.load_experiment("smoke")
    labels = [row.label for row in ablate.rows_of(experiment)]
    with pytest.raises(UserError) as error:
        refuse_unknown(load_claims(written(tmp_path, text)), experiment, labels, "smoke")
    assert told in str(error.value)


def test_the_claims_that_ship_name_what_exists() -> None:
    claims = load_claims()
    assert {rule.kind for claim in claims.claims for rule in claim.rules} == set(KINDS)
    for name in claims.experiments:
        experiment = library.load_experiment(name)
        refuse_unknown(claims, experiment, [row.label for row in ablate.rows_of(experiment)], name)
    assert sum(claims.minutes.values()) < 55, "within an hour, with room for a slower machine"


def test_what_is_trained_on_embedded_data_says_that_it_is_not_imagenet() -> None:
    for claim in load_claims().claims:
        if any(rule.experiment == "claims-cluttered" for rule in claim.rules):
            assert "cluttered" in claim.here, claim.name
            assert "not ImageNet" in claim.here, claim.name


def test_the_parts_are_the_stages_of_the_closed_form() -> None:
    assert STAGES == cost.STAGES


def test_claims_of_the_working_folder_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not library.claims_file().is_own
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "claims.yaml").write_text(GOOD)
    assert [claim.name for claim in load_claims().claims] == ["mine"]
    assert "claims" not in library.known("experiment"), "it is no experiment"
