"""Judge the network on the images that it has not seen: numbers, a table to read and a picture to look at.

The model is arrays and nothing else, so running it takes three lines, and loading it runs nobody's code.
"""

import json

import job
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

CELL = 44


def predicted(model: dict[str, NDArray[np.float64]], images: NDArray[np.float32]) -> NDArray[np.int64]:
    """One hidden layer of rectified units; the most likely digit is the one with the largest output."""
    hidden = np.maximum(images @ model["weights_0"] + model["biases_0"], 0)
    return np.argmax(hidden @ model["weights_1"] + model["biases_1"], axis=1)


def picture(confusion: NDArray[np.int64]) -> Image.Image:
    """True digits down, predicted ones across; what is right is blue, what is wrong red."""
    side = CELL * 11
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    for digit in range(10):
        middle = (digit + 1.5) * CELL
        draw.text((middle, CELL / 2), str(digit), fill="black", anchor="mm", font_size=18)
        draw.text((CELL / 2, middle), str(digit), fill="black", anchor="mm", font_size=18)
    for (true, guess), count in np.ndenumerate(confusion):
        left, top = (guess + 1) * CELL, (true + 1) * CELL
        share = count / max(1, confusion[true].sum())
        pale = int(255 * (1 - share if true == guess else max(0.0, 1 - 5 * share)))
        fill = (pale, pale, 255) if true == guess else (255, pale, pale)
        draw.rectangle((left, top, left + CELL - 2, top + CELL - 2), fill=fill, outline=(225, 225, 225))
        if count:
            ink = "white" if pale < 128 else "black"
            draw.text((left + CELL / 2, top + CELL / 2), str(count), fill=ink, anchor="mm", font_size=16)
    return image


def table(report: dict[str, object], recalls: list[float], precisions: list[float]) -> str:
    lines = [f"# {report['accuracy']:.1%} of {report['images']} unseen digits are read right", ""]
    lines += ["| digit | found | right when said |", "|---|---|---|"]
    lines += [f"| {d} | {recalls[d]:.1%} | {precisions[d]:.1%} |" for d in range(10)]
    return "\n".join([*lines, "", "![Who is taken for whom](confusion.png)", ""])


def main() -> None:
    document = job.read()
    with np.load(job.INPUT / job.tagged(document, "split")["test"]) as data:
        images, labels = data["images"], data["labels"]
    with np.load(job.INPUT / next(iter(job.tagged(document, "epochs").values()))) as data:
        model = dict(data)

    guesses = predicted(model, images)
    confusion = np.zeros((10, 10), dtype=np.int64)
    np.add.at(confusion, (labels, guesses), 1)
    right = np.diag(confusion)
    recalls = (right / np.maximum(confusion.sum(axis=1), 1)).tolist()
    precisions = (right / np.maximum(confusion.sum(axis=0), 1)).tolist()
    accuracy = float(right.sum() / len(labels))
    report = {
        "accuracy": accuracy,
        "images": len(labels),
        "recall": recalls,
        "precision": precisions,
        "confusion": confusion.tolist(),
    }
    (job.OUTPUT / "report.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
    (job.OUTPUT / "report.md").write_text(table(report, recalls, precisions), encoding="utf-8")
    picture(confusion).save(job.OUTPUT / "confusion.png")

    print(f"{right.sum()} of {len(labels)} right", flush=True)
    for true, guess in np.argwhere(confusion - np.diag(right) >= 2):
        print(f"{confusion[true, guess]} times a {true} was taken for a {guess}", flush=True)
    job.report(test_accuracy=accuracy, worst_recall=min(recalls))
    tags = {"accuracy": accuracy}
    job.hand_on(document["name"], {"report.md": tags, "report.json": tags, "confusion.png": {}})


main()
