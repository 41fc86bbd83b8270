"""Train a network with one hidden layer, epoch by epoch, and say after each how it stands.

Every image is moved a pixel or so each time it is seen, which makes more of 1,347 images than there are. A
tenth of them is kept back to tell learning from remembering. The test images are handed on unseen.
"""

import time

import job
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

Images = NDArray[np.float32]


def moved(images: Images, most: int, random: np.random.Generator) -> Images:
    """Each image moved by up to `most` pixels in both directions; what leaves it is lost."""
    squares = np.pad(images.reshape(-1, 8, 8), ((0, 0), (most, most), (most, most)))
    down, right = random.integers(0, 2 * most + 1, size=(2, len(images)))
    rows, columns = down[:, None] + np.arange(8), right[:, None] + np.arange(8)
    return squares[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]].reshape(
        -1, 64
    )


def main() -> None:
    document = job.read()
    options = document["options"]
    names = job.tagged(document, "split")
    with np.load(job.INPUT / names["train"]) as data:
        images, labels = data["images"], data["labels"]
    seen, kept, seen_labels, kept_labels = train_test_split(
        images, labels, test_size=0.1, random_state=options["seed"], stratify=labels
    )
    print(
        f"{len(seen)} images to learn from, {len(kept)} to check by; {options['hidden']} hidden units",
        flush=True,
    )

    random = np.random.default_rng(options["seed"])
    network = MLPClassifier(
        hidden_layer_sizes=(options["hidden"],),
        solver="sgd",
        learning_rate_init=options["learning_rate"],
        momentum=options["momentum"],
        batch_size=min(options["batch_size"], len(seen)),
        random_state=options["seed"],
    )
    began, accuracy = time.monotonic(), 0.0
    for epoch in range(1, options["epochs"] + 1):
        network.partial_fit(moved(seen, options["shift"], random), seen_labels, classes=np.arange(10))
        probabilities = network.predict_proba(kept)
        accuracy = float(np.mean(probabilities.argmax(axis=1) == kept_labels))
        validation_loss = float(log_loss(kept_labels, probabilities, labels=np.arange(10)))
        job.report(epoch, loss=float(network.loss_), validation_loss=validation_loss, accuracy=accuracy)
        if epoch == 1 or epoch % 25 == 0:
            seconds = time.monotonic() - began
            print(f"epoch {epoch}: {accuracy:.1%} right after {seconds:.1f} s", flush=True)

    weights = {f"weights_{layer}": matrix for layer, matrix in enumerate(network.coefs_)}
    biases = {f"biases_{layer}": vector for layer, vector in enumerate(network.intercepts_)}
    np.savez_compressed(job.OUTPUT / "model.npz", **weights, **biases)
    print(f"wrote model.npz, {(job.OUTPUT / 'model.npz').stat().st_size:,} bytes", flush=True)
    unchanged = (names["test"],) if "test" in names else ()
    created = {"model.npz": {"epochs": options["epochs"], "accuracy": accuracy}}
    job.hand_on(document["name"], created, unchanged)


main()
