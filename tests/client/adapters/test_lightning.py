"""PyTorch Lightning."""

from pathlib import Path
from typing import Any

import pytest

from tests.client.adapters.conftest import Logged, library

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def train(tmp_path: Path) -> Any:
    """Train a line for two epochs of four batches."""
    torch, pl = library("torch"), library("lightning.pytorch")
    from rungraph.adapters import LightningLogger

    class Line(pl.LightningModule):  # type: ignore[name-defined]
        def __init__(self, rate: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: Any, index: int) -> Any:
            loss = ((self.layer(batch) - 2 * batch) ** 2).mean()
            self.log("loss", loss)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_loss", (self.layer(batch) ** 2).mean())

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), self.hparams.rate)

    def train(**given: Any) -> Any:
        rows = torch.utils.data.DataLoader(torch.arange(16.0).reshape(-1, 1) / 16, batch_size=4)
        trainer = pl.Trainer(
            logger=LightningLogger(**given), max_epochs=2, log_every_n_steps=1, accelerator="cpu",
            default_root_dir=tmp_path, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Line(), rows, rows)
        return trainer

    return train


def test_what_a_module_logs_is_logged_by_step(train: Any, logged: Logged) -> None:
    trainer = train()
    found = logged.series()
    assert found["loss"][0] == list(range(8)) and found["val_loss"][0] == [3, 7]
    assert found["loss"][1][-1] == pytest.approx(float(trainer.callback_metrics["loss"]))
    assert trainer.logger.experiment.id == logged.run.id


def test_no_step_waits_for_the_server(train: Any, logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(type(logged.run), "flush", lambda run, seconds=30.0: waited.append(seconds))
    train()
    assert not waited


def test_it_logs_to_its_run_under_its_prefix(train: Any, logged: Logged) -> None:
    train(run=logged.run, prefix="line/")
    assert {"line/loss", "line/val_loss", "line/epoch"} == set(logged.series())
