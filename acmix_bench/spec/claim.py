"""A claim: a statement, and the rules that decide it, written down before anything is measured.

Each kind of rule is one declaration here and one function in `analysis.claims`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator

from acmix_bench import meters
from acmix_bench.errors import UserError, unknown
from acmix_bench.spec import library, strict
from acmix_bench.spec.experiment import Experiment
from acmix_bench.spec.strict import Value

Part = Literal["stage_1", "attention", "fully_connected", "grouped_convolution", "rest"]  # ops.cost.STAGES
STAGES: tuple[Part, ...] = get_args(Part)
Text = Annotated[str, Field(min_length=1)]


class Rule(Value):
    """What one comparison of an experiment must come to. Rows are named as its table names them."""

    experiment: Text = Field(description="a name or a YAML file")
    why: Text = Field(description="why the threshold is where it is")

    @property
    def kind(self) -> str:
        """Its name in YAML."""
        return next(name for name, kind in KINDS.items() if type(self) is kind)

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """The rows that it reads."""

    @property
    @abstractmethod
    def reads(self) -> str:
        """The meter that it reads."""

    @property
    def is_exact(self) -> bool:
        """Whether it reads counts, which have no interval."""
        return meters.find(self.reads).repeats == "once"


class Measured(Rule):
    """Reads a meter that it names, whose numbers have noise."""

    meter: Text

    @property
    def reads(self) -> str:
        return self.meter


class Counted(Rule):
    """Reads multiply-adds."""

    @property
    def reads(self) -> str:
        return "macs"


class Beside(Measured):
    """A row beside another one, paired by seed or process."""

    row: Text
    than: Text

    @property
    def labels(self) -> tuple[str, ...]:
        return self.row, self.than


class Greater(Beside):
    """The row's score is above the other's."""

    meter: Text = "accuracy"
    matters: float = Field(gt=0, description="the smallest difference that is worth seeds to see it")


class NotWorse(Beside):
    """The row's score is at most so far below the other's."""

    meter: Text = "accuracy"
    margin: float = Field(gt=0)


class Faster(Beside):
    """The row is more than so many times as fast as the other, beyond the noise floor."""

    meter: Text = "inference"
    times: float = Field(1.0, gt=0)
    matters: float = Field(gt=1, description="the smallest factor beyond it that is worth processes to see it")


class Trend(Measured):
    """The logarithm of |alpha / beta| rises from layer to layer: attention weighs more the deeper it stands."""

    row: Text
    meter: Text = "accuracy"
    matters: float = Field(gt=0, description="the smallest rise a layer that is worth seeds to see it")

    @property
    def labels(self) -> tuple[str, ...]:
        return (self.row,)


class Share(Counted):
    """Parts of a row's MACs over parts of the same row's, or of another's, are below a share or equal to it."""

    row: Text
    parts: tuple[Part, ...] = Field(STAGES, min_length=1)
    of: str = Field("", description="the other row; the same where not set")
    of_parts: tuple[Part, ...] = Field(STAGES, min_length=1)
    below: float | None = Field(None, gt=0)
    equal: float | None = Field(None, gt=0)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.row, self.of or self.row


class Proportional(Counted):
    """Some parts of the MACs of rows grow as a power of a size of theirs, to the last multiply-add."""

    sizes: dict[str, Annotated[int, Field(ge=1)]] = Field(description="rows, each with its size", min_length=2)
    parts: tuple[Part, ...] = Field(min_length=1)
    power: int = Field(1, ge=1, le=9)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.sizes)


KINDS: dict[str, type[Rule]] = {
    "greater": Greater,
    "not_worse": NotWorse,
    "faster": Faster,
    "trend": Trend,
    "share": Share,
    "proportional": Proportional,
}


class Claim(Value):
    """A statement that holds where every rule does, and does not where one fails."""

    name: str
    statement: Text
    source: Text
    here: Text = Field(description="on what it is tested here, so that no verdict says more")
    rules: tuple[Any, ...] = Field(min_length=1)


class Claims(Value):
    """A file of claims, and how many minutes each of their experiments takes where nothing is known of it yet."""

    place: str = Field(description="the file")
    minutes: dict[str, Annotated[float, Field(gt=0, le=1e6)]]
    claims: tuple[Claim, ...]

    @property
    def experiments(self) -> tuple[str, ...]:
        """Those that the rules read, each once."""
        return tuple(dict.fromkeys(rule.experiment for claim in self.claims for rule in claim.rules))

    def rules_of(self, experiment: str) -> list[Rule]:
        """All rules that read an experiment."""
        return [rule for claim in self.claims for rule in claim.rules if rule.experiment == experiment]


class _File(Value):
    minutes: dict[str, Annotated[float, Field(gt=0, le=1e6)]]
    claims: dict[str, dict[str, Any]] = Field(min_length=1)

    @field_validator("claims")
    @classmethod
    def _named(cls, claims: dict[str, Any]) -> dict[str, Any]:
        if odd := [name for name in claims if not name or not name.isprintable() or name != name.strip()]:
            raise UserError(f"claims: {odd[0]!r} is no name")
        return claims


def load_claims(file: Path | None = None) -> Claims:
    """The claims of a file: one that is given, experiments/claims.yaml in the working folder, or what ships.

    Raises:
        UserError: for what the file says wrong, with claim and key, and for names that do not exist.
    """
    named = library.claims_file()
    path, where = (file.expanduser(), str(file)) if file else (named.path, named.place)
    read = strict.validated(_File, strict.read_yaml(path, where), where=where)
    claims = Claims(
        place=where,
        minutes=read.minutes,
        claims=tuple(_claim(name, content, f"{where}: {name}") for name, content in read.claims.items()),
    )
    for name in claims.minutes:
        if name not in claims.experiments:
            raise unknown("experiment", name, claims.experiments, where=f"{where}: minutes")
    for name in claims.experiments:
        if name not in claims.minutes:
            raise UserError(f"{where}: minutes: {name} is missing")
    return claims


def _claim(name: str, content: Mapping[str, Any], where: str) -> Claim:
    if "name" in content:
        raise UserError(f"{where}: name: the key above it is the claim's")
    claim = strict.validated(Claim, {**content, "name": name}, where=where)
    rules = [_rule(rule, f"{where}: rule {number}") for number, rule in enumerate(claim.rules, 1)]
    return claim.model_copy(update={"rules": tuple(rules)})


def _rule(content: Any, where: str) -> Rule:
    if not isinstance(content, dict) or "kind" not in content:
        raise UserError(f"{where}: says no kind (known: {', '.join(KINDS)})")
    kind = content["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise unknown("kind", str(kind), KINDS, where=where)
    told = {key: value for key, value in content.items() if key != "kind"}
    rule = strict.validated(KINDS[kind], told, where=where)
    if isinstance(rule, Share) and (rule.below is None) == (rule.equal is None):
        raise UserError(f"{where}: say either below or equal")
    if isinstance(rule, Share) and rule.of in ("", rule.row) and set(rule.parts) == set(rule.of_parts):
        raise UserError(f"{where}: compares a count with itself")
    for parts in (getattr(rule, "parts", ()), getattr(rule, "of_parts", ())):
        if twice := [part for part in parts if parts.count(part) > 1]:
            raise UserError(f"{where}: {twice[0]} stands twice among the parts")
    if isinstance(rule, Beside) and rule.row == rule.than:
        raise UserError(f"{where}: compares {rule.row} with itself")
    if isinstance(rule, Proportional) and len(set(rule.sizes.values())) < 2:
        raise UserError(f"{where}: sizes: all are {next(iter(rule.sizes.values()))}")
    return rule


def refuse_unknown(claims: Claims, experiment: Experiment, labels: Sequence[str], name: str) -> None:
    """Check what the rules read of an experiment.

    Raises:
        UserError: for a row that it does not have, or a meter that it does not read or that gives no such number.
    """
    for claim in claims.claims:
        for rule in claim.rules:
            if rule.experiment != name:
                continue
            where = f"claim {claim.name}: experiment {experiment.name}"
            for label in rule.labels:
                if label not in labels:
                    raise unknown("row", label, labels, where=where)
            if rule.reads not in experiment.meters:
                raise unknown("meter", rule.reads, experiment.meters, where=where)
            meter = meters.find(rule.reads)
            fits = meter.is_speed if isinstance(rule, Faster) else rule.is_exact or meter.repeats == "seeds"
            if not fits or (isinstance(rule, (Greater, NotWorse)) and not (meter.metrics and meter.repeats == "seeds")):
                raise UserError(f"{where}: {rule.kind} cannot read {rule.reads}")
