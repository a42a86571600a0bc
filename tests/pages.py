"""The pages that are committed, as text, and the runs that they show."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from acmix_bench.analysis.compare import Comparison, compare
from acmix_bench.runs.store import Store

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


def prose(page: str) -> str:
    """A page without its blocks."""
    return FENCE.sub("", TEXT[page])


def flat(text: str) -> str:
    return " ".join(text.split())
