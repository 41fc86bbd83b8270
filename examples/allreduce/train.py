"""Logistic regression by several workers: each has its share of the examples, the gradients are added up every step."""

import json
import math
import os
import random
from pathlib import Path

from ring import Ring

INPUT = Path(os.environ.get("RUNGRAPH_INPUT", "/mnt/input"))
OUTPUT = Path(os.environ.get("RUNGRAPH_OUTPUT", "/mnt/output"))

Example = tuple[list[float], int]


def share(seed: int, examples: int, features: int, rank: int, size: int) -> list[Example]:
    """One of so many parts of the examples, which are the same however many parts there are."""
    chance = random.Random(seed)
    truth = [chance.gauss(0, 1) for _ in range(features)]
    mine = []
    for number in range(examples):
        given = [chance.gauss(0, 1) for _ in range(features)]
        noisy = sum(map(float.__mul__, truth, given)) + chance.gauss(0, 1)
        if number % size == rank:
            mine.append((given, int(noisy > 0)))
    return mine


def judge(weights: list[float], mine: list[Example]) -> list[float]:
    """The gradient over these examples, and after it their loss, how many are right, and how many they are."""
    gradient, loss, right = [0.0] * len(weights), 0.0, 0
    for given, label in mine:
        score = sum(map(float.__mul__, weights, given))
        likely = 1 / (1 + math.exp(-max(-500.0, min(500.0, score))))
        loss -= math.log(max(likely if label else 1 - likely, 1e-300))
        right += (likely > 0.5) == bool(label)
        for place, number in enumerate(given):
            gradient[place] += (likely - label) * number
    return [*gradient, loss, float(right), float(len(mine))]


def main() -> None:
    document = json.loads((INPUT / "input.json").read_text(encoding="utf-8"))
    options = document["options"]
    ring = Ring()
    mine = share(options["seed"], options["examples"], options["features"], ring.rank, ring.size)
    print(f"rank {ring.rank} of {ring.size}: {len(mine)} of {options['examples']} examples", flush=True)
    weights, accuracy = [0.0] * options["features"], 0.0
    for step in range(1, options["steps"] + 1):
        *gradient, loss, right, count = ring.sum(judge(weights, mine))
        accuracy = right / count
        print(json.dumps({"metric": {"loss": loss / count, "accuracy": accuracy}, "step": step}), flush=True)
        weights = [
            weight - options["rate"] * slope / count for weight, slope in zip(weights, gradient, strict=True)
        ]
    if ring.rank == 0:
        (OUTPUT / "model.json").write_text(json.dumps({"weights": weights}), encoding="utf-8")
        tags = {"workers": ring.size, "accuracy": accuracy}
        made = {"name": document["name"], "files": ["model.json"], "files_created": ["model.json"]}
        (OUTPUT / "output.json").write_text(json.dumps({**made, "tags": [tags]}), encoding="utf-8")


main()
