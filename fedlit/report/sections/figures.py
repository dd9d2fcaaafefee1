"""Sections of charts and pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fedlit.report.analysis import Analysis
from fedlit.report.collect import Study, heterogeneity_of
from fedlit.report.document import Element, PictureRow, Text
from fedlit.report.run import Run

#: Charts that have a section of their own.
APART = ("differences", "heterogeneity", "clients", "each_client", "skewed_clients", "skewed_over_rounds", "classes")


def curves(found: Analysis) -> Iterable[Element]:
    """Scalars over the rounds."""
    return (chart for chart in found.charts if chart.name not in APART)


def heterogeneity(found: Analysis) -> Iterable[Element]:
    """Results against alpha."""
    return _named(found, "heterogeneity")


def clients(found: Analysis) -> Iterable[Element]:
    """Accuracy over the clients."""
    yield from _named(found, "clients")
    yield from _named(found, "each_client")


def classes(found: Analysis) -> Iterable[Element]:
    """Accuracy by class, and confusion matrices at the most heterogeneous partition."""
    charts = list(_named(found, "classes"))
    yield from charts
    study = found.study
    partition = study.partitions[0]
    files = tuple(
        (run.variant, run.folder / "confusion.png")
        for variant in study.variants
        for run in _first(study, variant, partition)
        if (run.folder / "confusion.png").is_file()
    )
    if files:
        remedy = "" if charts else " For accuracy by class, run `fedlit test` on the runs."
        yield Text(
            f"Confusion matrices at {heterogeneity_of(study, partition)}, in the best round of the first seed.{remedy}"
        )
        yield PictureRow(files)


def partitions(study: Study) -> Iterable[Element]:
    """Pictures of the partitions."""
    files: list[tuple[str, Path]] = []
    for partition in study.partitions:
        there = [run for run in study.runs if run.partition == partition]
        runs = sorted(there, key=lambda run: (run.seed, study.variants.index(run.variant)))
        pictures = [run.folder / "partition.png" for run in runs if (run.folder / "partition.png").is_file()]
        files += [(heterogeneity_of(study, partition), picture) for picture in pictures[:1]]
    if files:
        yield Text("The data of each client, at the first seed.")
        yield PictureRow(tuple(files))


def _named(found: Analysis, name: str) -> Iterable[Element]:
    return (chart for chart in found.charts if chart.name == name)


def _first(study: Study, variant: str, partition: str) -> list[Run]:
    return sorted(study.runs_of(variant, partition), key=lambda run: run.seed)[:1]
