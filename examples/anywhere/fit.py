"""Fit a line to noisy points and log how it goes: as a job of a pipeline, or by itself as an external run."""

import json
import os
import random
from pathlib import Path

import rungraph


def options() -> dict[str, float]:
    """Those of the job; by itself, the same defaults."""
    folder = os.environ.get("RUNGRAPH_INPUT")
    if folder is None:
        return {"steps": 500, "rate": 0.1}
    given: dict[str, float] = json.loads((Path(folder) / "input.json").read_text())["options"]
    return given


def main() -> None:
    chosen = options()
    random.seed(0)
    points = [(x / 50, 3 * x / 50 - 1 + random.gauss(0, 0.1)) for x in range(50)]
    slope = bias = 0.0
    with rungraph.run("fit a line", tags={"example": "anywhere"}) as run:
        for step in range(int(chosen["steps"])):
            errors = [slope * x + bias - y for x, y in points]
            slope -= (
                chosen["rate"] * sum(e * x for e, (x, _) in zip(errors, points, strict=True)) / len(points)
            )
            bias -= chosen["rate"] * sum(errors) / len(points)
            loss = sum(e * e for e in errors) / len(points)
            rungraph.log({"loss": loss, "slope": slope, "bias": bias}, step=step)
            if run.cancel_requested:
                break
    print(f"y = {slope:.2f} x + {bias:.2f}")


main()
