"""The learning rate of each update, against the formulas."""

from __future__ import annotations

import pytest
import torch

from acmix_bench.spec.recipe import Recipe
from acmix_bench.train.optimizer import schedule_of


def rates(**fields: object) -> list[float]:
    """Of 100 updates, the first 10 of which rise."""
    recipe = Recipe(learning_rate=1.0, **fields)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    schedule, found = schedule_of(optimizer, recipe, 100), []
    for update in range(100):
        schedule.step_update(update)
        found.append(optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize(("schedule", "power"), [("poly", 0.9), ("linear", 1.0)])
def test_it_falls_as_a_power_of_what_is_left(schedule: str, power: float) -> None:
    found = rates(schedule=schedule)
    assert found[:10] == sorted(found[:10])
    assert found[10:] == pytest.approx([(1 - update / 100) ** power for update in range(10, 100)])


def test_it_drops_to_a_tenth_where_the_recipe_says() -> None:
    found = rates(schedule="drops", drops=(0.5, 0.9))
    assert found[10:] == pytest.approx([1.0] * 40 + [0.1] * 40 + [0.01] * 10)
