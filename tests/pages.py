"""The pages that are committed, as text, and the runs that they show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from acmix_bench.analysis.claims import Judged
from acmix_bench.analysis.compare import Comparison, compare
from acmix_bench.claims import as_stored, work_of
from acmix_bench.report.table.claims import claims_table
from acmix_bench.report.table.grid import Table
from acmix_bench.runs.store import Store
from acmix_bench.spec.claim import load_claims

ROOT = Path(__file__).parent.parent
GENERATED = "docs/commands.md"
WRITTEN = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
WRITTEN.remove(GENERATED)
PAGES = [
    *WRITTEN,
    GENERATED,
    "CONTRIBUTING.md",
    "results/README.md",
    "results/published/README.md",
    "examples/mixers/README.md",
]
TEXT = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}

# A block of tool output opens with the run that it shows: ```text results/shown/paths
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCKS = [(page, *block) for page in PAGES for block in FENCE.findall(TEXT[page])]
SHOWN = [(info.removeprefix("text "), block) for _, info, block in BLOCKS if info.startswith("text")]
ALL_RUNS = sorted(path.parent for path in (ROOT / "results" / "shown").glob("*/run.json"))


@cache
def shown(run: str) -> Comparison:
    return compare(Store(ROOT / run).load())


@cache
def claims_shown() -> tuple[Sequence[Judged], Table]:
    """What the committed runs say of the claims, and what `claims --budget 0 --results results/shown` prints."""
    claims = load_claims()
    stored = as_stored(claims, claims.claims, work_of(claims, claims.claims, ROOT / "results" / "shown", jobs=2))
    table = claims_table(claims, stored.judged, stored.runs, seconds=stored.seconds, unmeasured=stored.unmeasured)
    return stored.judged, table


def prose(page: str) -> str:
    """A page without its blocks."""
    return FENCE.sub("", TEXT[page])


def flat(text: str) -> str:
    return " ".join(text.split())
