"""Folders of runs, made up: what their curves are is known, so what a report must say of them is too."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fedlit.report.collect import Study
from fedlit.report.run import Run

VARIANTS = ("plain", "channel", "channel_mlp", "spatial")
PARTITIONS = ("dir01", "dir05", "iid")
ALPHAS = {"dir01": 0.1, "dir05": 0.5, "iid": None}

#: By variant and partition: (final accuracy, amplitude of its zigzag).
Shapes = Mapping[tuple[str, str], tuple[float, float]]


def shapes(**changed: tuple[float, float]) -> dict[tuple[str, str], tuple[float, float]]:
    """Every cell at accuracy 0.8 with a zigzag of 0.01; others by VARIANT_PARTITION or VARIANT."""
    return {(v, p): changed.get(f"{v}_{p}", changed.get(v, (0.8, 0.01))) for v in VARIANTS for p in PARTITIONS}


def scalars(final: float, zigzag: float, rounds: int = 20, seed: int = 0, noise: float = 0.0005) -> pd.DataFrame:
    """Accuracy rises to its end at half of the rounds, then zigzags about it; seeds differ a little."""
    rng = np.random.default_rng(seed)
    round = np.arange(1, rounds + 1)
    accuracy = final * np.minimum(1, round / (rounds / 2)) + zigzag * (-1.0) ** round + rng.normal(0, noise, rounds)
    accuracy += 0.002 * np.sin(seed + 1)  # of the seed, whatever the variant: pairing removes it
    return pd.DataFrame(
        {
            "round": round,
            "global/accuracy": accuracy,
            "global/f1_macro": accuracy - 0.01,
            "global/loss": 2 * (1 - accuracy),
            "clients/accuracy_mean": accuracy,
            "clients/accuracy_p10": accuracy - 0.2,
            "drift/mean": 1 + 1 / round,
            "drift/cosine": 0.5 + 0.01 * rng.normal(size=rounds),
            "round/clients": 10.0,
            "round/seconds": 1.5 + rng.normal(0, 0.01, rounds),
            "round/megabytes_down": 10 * 4 * 426_415 / 1e6,
            "round/megabytes_up": 10 * 4 * 426_415 / 1e6,
        }
    )


def write_run(folder: Path, table: pd.DataFrame, alpha: float | None, rounds: int = 20, seed: int = 0) -> None:
    """What fedlit fit leaves, as far as a report reads it."""
    folder.mkdir(parents=True)
    table.to_csv(folder / "metrics.csv", index=False)
    partition = "null" if alpha is None else f"{{class_path: fedlit.data.Dirichlet, init_args: {{alpha: {alpha}}}}}"
    (folder / "config.yaml").write_text(
        f"seed_everything: {seed}\ntrainer: {{max_epochs: {rounds}}}\ndata: {{init_args: {{partition: {partition}}}}}\n"
    )
    Image.new("RGB", (60, 30), "white").save(folder / "partition.png")
    Image.new("RGB", (40, 40), "black").save(folder / "confusion.png")


def write_outcome(
    run: Path, clients: Sequence[float], classes: Sequence[float] = (0.5, 1.0), rounds: int = 20, order: str = "a"
) -> None:
    """What fedlit fit adds at its end: accuracy by client and by class, and hashes of what was drawn."""
    table = {"round": rounds, "client": range(len(clients)), "samples": 10, "accuracy": clients}
    pd.DataFrame(table).to_csv(run / "clients.csv", index=False)
    names = ["N/A", *"123456789"][: len(classes)]
    table = {"round": rounds, "class": names, "samples": 10, "accuracy": classes}
    pd.DataFrame(table).to_csv(run / "classes.csv", index=False)
    hashes = {"partition": "p", "participation": "q", "batch order": order}
    (run / "draws.json").write_text(json.dumps(hashes))


def write_study(
    folder: Path, cells: Shapes, seeds: Sequence[int] = (0, 1, 2), rounds: int = 20, record: bool = True
) -> Path:
    """A finished study in ``folder``."""
    runs = []
    for (variant, partition), (final, zigzag) in cells.items():
        for seed in seeds:
            name = f"{variant}_{partition}"
            table = scalars(final, zigzag, rounds, seed=1000 * len(runs) + seed)
            table["global/accuracy"] += 0.002 * np.sin(seed)
            write_run(folder / name / f"seed_{seed}", table, ALPHAS[partition], rounds, seed)
            runs.append({"name": name, "seed": seed, "axes": {"variant": variant, "partition": partition}})
    if record:
        axes = {
            "variant": list(dict.fromkeys(v for v, _ in cells)),
            "partition": list(dict.fromkeys(p for _, p in cells)),
        }
        study = {"axes": axes, "seeds": list(seeds), "rounds": rounds, "runs": runs}
        (folder / "study.json").write_text(json.dumps(study))
    return folder


def made_up(noise: float = 0.001, seeds: int = 3, **effects: Mapping[str, float]) -> pd.DataFrame:
    """Measured runs: accuracy 0.8, loss 0.7 and wobble 0.01, plus effects by VARIANT or VARIANT_PARTITION, plus noise.

    The noise has the variant's own part and, ten times larger, one of the seed that pairing removes.
    """
    rng = np.random.default_rng(0)
    common = rng.normal(0, 10 * noise, seeds)
    rows = []
    for variant in VARIANTS:
        for partition in PARTITIONS:
            effect = {**effects.get(variant, {}), **effects.get(f"{variant}_{partition}", {})}
            for seed in range(seeds):
                own = rng.normal(0, [noise, noise, noise / 10])
                values = np.array([0.8, 0.7, 0.01]) + own + [common[seed], 0, 0]
                shifted = {k: x + effect.get(k, 0) for k, x in zip(("accuracy", "loss", "wobble"), values, strict=True)}
                rows.append({"variant": variant, "partition": partition, "seed": seed, **shifted})
    return pd.DataFrame(rows)


def study_of(measured: pd.DataFrame, finals: Mapping[tuple[str, int], float] | None = None) -> Study:
    """The study that measured runs are of; its own runs, where there are ``finals``, are of one round, at dir01."""
    runs = tuple(
        Run(
            f"{variant}_dir01",
            variant,
            "dir01",
            seed,
            Path(),
            pd.DataFrame({"round": [1], "global/accuracy": [final]}),
            {},
        )
        for (variant, seed), final in (finals or {}).items()
    )
    alphas = {p: ALPHAS.get(p) or math.inf for p in dict.fromkeys(measured["partition"])}
    variants, seeds = tuple(dict.fromkeys(measured["variant"])), tuple(dict.fromkeys(measured["seed"]))
    return Study(Path("logs/made_up"), variants, tuple(alphas), alphas, seeds, 1, 1, runs, ())
