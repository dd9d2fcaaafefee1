"""The pictures of a run, in TensorBoard and as files."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import nn

from fedlit import plots
from fedlit.core.bins import bin_names
from fedlit.core.files import atomic_write
from fedlit.data.module import data_of
from fedlit.data.skew import label_counts
from fedlit.runs.board import PICTURES
from fedlit.runs.checkpoints import BEST_BY
from fedlit.runs.gates import as_images, gate_maps, shown_inputs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fedlit.federated.module import FederatedModule


#: Key of the round in a picture's metadata.
ROUND = "round"
#: Names of all pictures.
TAGS = ("partition", "confusion", "attention")
#: The best round before any round is finished.
NOTHING_YET = {"accuracy": float("-inf"), "round": 0, "confusion": None}


class Pictures(Callback):
    """Logs the partition at the start, the confusion matrix of the best round, and maps of spatial gates.

    They are saved in the run's folder as ``partition.png``, ``confusion.png`` and ``attention.png``, and the
    partition's seed, hash, sizes and repairs as ``partition.json``. Drawing takes about as long as a small round, so it
    is not done in every round. A picture's metadata has its round: a final picture that a killed run did not draw is
    drawn when the run is resumed, even if no round is left. Pictures of rounds after the checkpoint that is resumed are
    removed, as TensorBoard removes them, and drawn again.

    Args:
        folder: The run's folder; None draws nothing, as on ranks other than the first.
        every_n_rounds: How often gates are drawn, and the confusion matrix if there is a new best round. All are also
            drawn at the end; 0 draws them only then.
        digits: Number of held-out images shown with the gates; they are the same in all rounds.
    """

    def __init__(self, folder: Path | None, every_n_rounds: int = 10, digits: int = 8) -> None:
        self._folder = folder
        self.every_n_rounds = every_n_rounds
        self.digits = digits
        self._best: dict[str, Any] = dict(NOTHING_YET)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._best = dict(NOTHING_YET)
        if not trainer.is_global_zero:
            self._folder = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._folder is None:
            return
        data = data_of(trainer)
        partition = data.partition
        facts = {
            "partitioner": type(data.partitioner).__name__,
            "num_clients": data.num_clients,
            "seed": data.seed,
            "hash": partition.hash,
            "note": partition.note,
            "smallest": int(partition.sizes.min()),
            "largest": int(partition.sizes.max()),
        }
        with atomic_write(self._folder / "partition.json") as file:
            file.write(json.dumps(facts, indent=2) + "\n")
        self._remove_later(trainer.global_step)
        if not data.has_examples or (self._folder / "partition.png").is_file():  # resumed
            return
        counts = label_counts(data, plots.MOST_CLIENTS)
        title = "{partitioner}, {num_clients} clients of {smallest} to {largest} samples".format(**facts)
        self._show(trainer, "partition", plots.partition_heatmap(counts, bin_names(data.class_names), title))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: FederatedModule) -> None:  # type: ignore[override]
        accuracy = float(trainer.callback_metrics.get(BEST_BY, float("-inf")))
        if accuracy > self._best["accuracy"]:
            confusion = pl_module.scores.confusion.cpu()
            self._best = {"accuracy": accuracy, "round": trainer.global_step, "confusion": confusion}
        if self._folder and self.every_n_rounds and trainer.global_step % self.every_n_rounds == 0:
            self._confusion(trainer)
            self._attention(trainer, pl_module.net)

    def on_fit_end(self, trainer: Trainer, pl_module: FederatedModule) -> None:  # type: ignore[override]
        if self._folder:
            self._confusion(trainer)
            pl_module.to(trainer.strategy.root_device)  # the strategy has moved it to the CPU
            self._attention(trainer, pl_module.net)
            pl_module.cpu()

    def _confusion(self, trainer: Trainer) -> None:
        if self._best["confusion"] is None or self._is_drawn("confusion", self._best["round"]):
            return
        title = "round {round}, accuracy {accuracy:.4f}".format(**self._best)
        confusion = self._best["confusion"].numpy()
        names = bin_names(data_of(trainer).class_names)
        if len(confusion) != len(names):  # saved by an earlier version, which had no bins
            return
        self._show(trainer, "confusion", plots.confusion_heatmap(confusion, names, title), self._best["round"])

    def _attention(self, trainer: Trainer, net: nn.Module) -> None:
        if self._is_drawn("attention", trainer.global_step):
            return
        data = data_of(trainer)
        inputs = shown_inputs(data, self.digits)
        images = as_images(inputs)
        if images is None:
            return
        maps = gate_maps(net, inputs)
        if maps:
            figure = plots.attention_maps(images, maps, f"round {trainer.global_step}")
            self._show(trainer, "attention", figure)

    def state_dict(self) -> dict[str, Any]:
        return self._best

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best = {name: state_dict[name] for name in self._best}

    def _remove_later(self, finished: int) -> None:
        """Remove pictures of rounds that are not finished; before the first round, all, as they are of another fit."""
        assert self._folder is not None
        for picture in (self._folder / f"{tag}.png" for tag in TAGS):
            if finished == 0 or (round_of(picture) or 0) > finished:
                picture.unlink(missing_ok=True)

    def _is_drawn(self, tag: str, round: int) -> bool:
        assert self._folder is not None
        return round_of(self._folder / f"{tag}.png") == round

    def _show(self, trainer: Trainer, tag: str, figure: Figure, round: int | None = None) -> None:
        """Log a picture and save it, both with its round, by default the last finished one."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        assert self._folder is not None
        round = trainer.global_step if round is None else round
        pixels = plots.pixels(figure)  # (H, W, 3)
        height, width, channels = pixels.shape
        file = BytesIO()
        facts = PngInfo()
        facts.add_text(ROUND, str(round))
        Image.fromarray(pixels).save(file, "png", pnginfo=facts)
        png = file.getvalue()
        # Not add_image, which makes several float copies: 60 MB for a picture of 1300 pixels.
        size = {"height": height, "width": width, "colorspace": channels}
        image = Summary.Image(**size, encoded_image_string=png)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                summary = Summary(value=[Summary.Value(tag=f"{PICTURES}{tag}", image=image)])
                logger.experiment.file_writer.add_summary(summary, round)
                logger.experiment.flush()
        # last, so that TensorBoard has the picture if the file exists
        with atomic_write(self._folder / f"{tag}.png", "wb") as drawn:
            drawn.write(png)


def round_of(picture: Path) -> int | None:
    """The round in a picture's metadata; None if there is no such picture."""
    try:
        with Image.open(picture) as image:
            return int(image.info[ROUND])
    except (OSError, ValueError, LookupError, SyntaxError):
        return None
