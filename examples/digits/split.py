"""Cut the digits into images to learn from and images to be judged by, with as many of each digit in both."""

import job
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def main() -> None:
    document = job.read()
    options = document["options"]
    digits = load_digits()
    images = (digits.data / 16).astype(np.float32)
    parts = train_test_split(
        images,
        digits.target,
        test_size=options["test_fraction"],
        random_state=options["seed"],
        stratify=digits.target,
    )
    created = {}
    for split, part, labels in (("train", parts[0], parts[2]), ("test", parts[1], parts[3])):
        np.savez_compressed(job.OUTPUT / f"{split}.npz", images=part, labels=labels)
        created[f"{split}.npz"] = {"split": split, "images": len(labels)}
        print(f"{split}: {len(labels)} images, of each digit {np.bincount(labels).tolist()}", flush=True)
    job.hand_on(document["name"], created)


main()
