"""Hugging Face's Trainer, on a tiny model that is made here."""

from pathlib import Path
from typing import Any

import pytest

from tests.client.adapters.conftest import Logged, library

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Train six steps; the trainer."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch, transformers = library("torch"), library("transformers")
    library("accelerate")
    from rungraph.adapters import TransformersCallback

    def train(**given: Any) -> Any:
        config = transformers.GPT2Config(vocab_size=16, n_positions=8, n_embd=8, n_layer=1, n_head=1)
        rows = [{"input_ids": row, "labels": row} for row in torch.arange(96).reshape(12, 8) % 16]
        arguments = transformers.TrainingArguments(
            str(tmp_path / "out"), per_device_train_batch_size=4, num_train_epochs=2, logging_steps=1,
            eval_strategy="epoch", report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no",
        )  # fmt: skip
        trainer = transformers.Trainer(
            transformers.GPT2LMHeadModel(config), arguments, train_dataset=rows, eval_dataset=rows,
            callbacks=[TransformersCallback(**given)],
        )  # fmt: skip
        trainer.train()
        return trainer

    return train


def test_what_the_trainer_logs_is_logged_by_global_step(train: Any, logged: Logged) -> None:
    history = train().state.log_history
    found = logged.series()
    assert found["loss"] == ([1, 2, 3, 4, 5, 6], [one["loss"] for one in history if "loss" in one])
    assert found["eval_loss"] == ([3, 6], [one["eval_loss"] for one in history if "eval_loss" in one])
    assert {"learning_rate", "grad_norm", "epoch", "train_runtime"} <= set(found)


def test_a_cancelled_run_stops_after_its_step(train: Any, logged: Logged) -> None:
    logged.cancel()
    assert train(run=logged.run).state.global_step == 1
