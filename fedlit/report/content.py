"""The sections of a report."""

from __future__ import annotations

from fedlit.report.analysis import Analysis
from fedlit.report.collect import Study
from fedlit.report.document import Document, Section
from fedlit.report.numbers import count
from fedlit.report.sections.answer import answer
from fedlit.report.sections.choice import choice
from fedlit.report.sections.differences import differences
from fedlit.report.sections.figures import classes, clients, curves, heterogeneity, partitions
from fedlit.report.sections.left_behind import attention, left_behind
from fedlit.report.sections.method import method
from fedlit.report.sections.missing import missing
from fedlit.report.sections.results import results
from fedlit.report.sections.setting import setting
from fedlit.report.sections.verdicts import verdicts


def document(found: Analysis) -> Document:
    """The report: the answer first, then the evidence; empty sections are left out."""
    study = found.study
    sections = [
        Section("In short", tuple(answer(found))),
        Section("Chosen setting", tuple(choice(study))),
        Section("What is missing", tuple(missing(found))),
        Section(found.claims.title if found.claims else "", tuple(verdicts(found))),
        Section("What was run", tuple(setting(found))),
        Section("Curves", tuple(curves(found))),
        Section(f"Differences to {found.baseline}", tuple(differences(found))),
        Section("Heterogeneity", tuple(heterogeneity(found))),
        Section("Clients", tuple(clients(found))),
        Section("Who is left behind", tuple(left_behind(found))),
        Section("Attention over the rounds", tuple(attention(study))),
        Section("Classes", tuple(classes(found))),
        Section("Results", tuple(results(found))),
        Section("Partitions", tuple(partitions(study))),
        Section("How this was computed", tuple(method(found))),
    ]
    return Document(_title(study), _summary(study), study.variants, tuple(s for s in sections if s.blocks))


def _title(study: Study) -> str:
    name = study.folder.resolve().name
    return name if not study.record or name.lower().startswith("study") else f"Study {name}"


def _summary(study: Study) -> str:
    of = f" of {study.planned}" if study.planned and study.planned != study.horizon else ""
    cells = f"{count(len(study.variants), 'variant')}, {count(len(study.partitions), study.within)}"
    if study.within != "partition":
        cells = f"{count(len(study.variants), 'variant')}, {count(len(study.partitions), 'value')} of {study.within}"
    return (
        f"{cells}, {count(len(study.seeds), 'seed')}; {count(len(study.finished), 'run')} compared "
        f"at round {study.horizon}{of}."
    )
