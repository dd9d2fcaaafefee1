"""What a run shows as pictures, in TensorBoard and beside the run."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from fedlit import plots
from fedlit.bins import bin_names, bin_width, num_bins
from fedlit.data.module import data_of
from fedlit.federated.gradients import evaluating
from fedlit.files import writing
from fedlit.runs.checkpoints import BEST_BY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fedlit.federated.module import FederatedModule


class Pictures(Callback):
    """Logs the partition at the start, the confusion matrix of the best round, and maps of spatial gates.

    They are saved beside the run as ``partition.png``, ``confusion.png`` and ``attention.png``, and the partition's
    seed, hash, sizes and repairs as ``partition.json``. Drawing takes about as long as a small round, so it is not done
    in each.

    Args:
        every_n_rounds: How often gates are drawn, and the confusion matrix where it is of a new best round; it is also
            drawn at the end. 0 is only at the end.
        digits: Number of test images under the gates, always the same ones.
    """

    def __init__(self, every_n_rounds: int = 10, digits: int = 8) -> None:
        self.every_n_rounds = every_n_rounds
        self.digits = digits
        self._best: dict[str, Any] = {"accuracy": float("-inf"), "round": 0, "confusion": None, "drawn": True}
        self._folder: Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # Asking for log_dir is collective: all ranks do, and only the first one draws.
        folder = trainer.log_dir
        self._folder = Path(folder) if folder is not None and trainer.is_global_zero else None

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
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "partition.json").write_text(json.dumps(facts, indent=2) + "\n")
        if trainer.global_step > 0:  # resumed: the picture is there
            return
        bins = data.train.targets.cpu().numpy() // bin_width(data.num_classes)
        shown = range(min(data.num_clients, plots.MOST_CLIENTS))
        counts = np.stack([np.bincount(bins[partition.client(k)], minlength=num_bins(data.num_classes)) for k in shown])
        title = "{partitioner}, {num_clients} clients of {smallest} to {largest} samples".format(**facts)
        self._show(trainer, "partition", plots.partition_heatmap(counts, bin_names(data.class_names), title))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: FederatedModule) -> None:  # type: ignore[override]
        accuracy = float(trainer.callback_metrics.get(BEST_BY, float("-inf")))
        if accuracy > self._best["accuracy"]:
            confusion = pl_module.scores.confusion.cpu()
            self._best = {"accuracy": accuracy, "round": trainer.global_step, "confusion": confusion, "drawn": False}
        if self._folder and self.every_n_rounds and trainer.global_step % self.every_n_rounds == 0:
            self._confusion(trainer)
            self._attention(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._folder:
            self._confusion(trainer)
            if not self.every_n_rounds or trainer.global_step % self.every_n_rounds:
                self._attention(trainer, pl_module)

    def _confusion(self, trainer: Trainer) -> None:
        if self._best["drawn"]:
            return
        title = "round {round}, accuracy {accuracy:.4f}".format(**self._best)
        confusion = self._best["confusion"].numpy()
        names = bin_names(data_of(trainer).class_names)
        if len(confusion) != len(names):  # kept by an earlier version, which had no bins
            return
        self._show(trainer, "confusion", plots.confusion_heatmap(confusion, names, title))
        self._best["drawn"] = True

    def _attention(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = data_of(trainer)
        # Images from the whole test set, evenly spaced: as many classes as can be, and always the same.
        chosen = torch.linspace(0, len(data.test) - 1, self.digits).long()
        inputs = data.transform(data.test.inputs[chosen])
        if inputs.dim() != 4 or not inputs.is_floating_point():  # no pictures
            return
        maps = gate_maps(pl_module, inputs)
        if maps:
            images = inputs.mean(1).cpu().numpy()
            figure = plots.attention_maps(images, maps, f"round {trainer.global_step}")
            self._show(trainer, "attention", figure)

    def state_dict(self) -> dict[str, Any]:
        return self._best

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best = dict(state_dict)

    def _show(self, trainer: Trainer, tag: str, figure: Figure) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        assert self._folder is not None
        pixels = plots.pixels(figure)  # (H, W, 3)
        height, width, channels = pixels.shape
        file = BytesIO()
        Image.fromarray(pixels).save(file, "png")
        png = file.getvalue()
        with writing(path := self._folder / f"{tag}.png"):
            path.write_bytes(png)
        # Not add_image: that goes by way of several float images, 60 MB for a picture of 1300 pixels.
        size = {"height": height, "width": width, "colorspace": channels}
        image = Summary.Image(**size, encoded_image_string=png)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                summary = Summary(value=[Summary.Value(tag=tag, image=image)])
                logger.experiment.file_writer.add_summary(summary, trainer.global_step)


@torch.no_grad()
def gate_maps(net: nn.Module, inputs: Tensor) -> dict[str, NDArray[np.float32]]:
    """The maps (B, h, w) of every spatial gate in a network, for a batch of inputs.

    A spatial gate is a module with a method ``gate`` that maps its input to (B, 1, h, w).
    """
    maps: dict[str, NDArray[np.float32]] = {}

    def look(name: str, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        try:
            gate = module.gate(*arguments)  # type: ignore[operator]
        except Exception:  # of whatever kind: what somebody else calls a gate need not be one, and only a map is lost
            return
        if not isinstance(gate, Tensor):
            return
        if gate.dim() == 4 and gate.shape[1] == 1 and gate.shape[2:] != (1, 1):
            maps[name] = gate[:, 0].float().expand(len(inputs), -1, -1).cpu().numpy()

    with evaluating(net):
        hooks = [
            module.register_forward_pre_hook(lambda module, arguments, name=name: look(name, module, arguments))
            for name, module in net.named_modules()
            if callable(getattr(module, "gate", None))
        ]
        try:
            if hooks:
                net(inputs)
        finally:
            for hook in hooks:
                hook.remove()
    return {name.removeprefix("net."): values for name, values in maps.items()}
