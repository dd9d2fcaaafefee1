"""The folder of a run and what it shows: scalars, pictures, progress, checkpoints."""

from fedlit.runs.checkpoints import checkpoints, place_own
from fedlit.runs.client_accuracy import ClientAccuracy
from fedlit.runs.film import AttentionFilm
from fedlit.runs.loggers import Board, MetricsTable, loggers_of
from fedlit.runs.outcome import Outcome
from fedlit.runs.own_loggers import own_loggers
from fedlit.runs.participation import Participation
from fedlit.runs.pictures import Pictures
from fedlit.runs.progress import RoundProgress
from fedlit.runs.read import read_runs
from fedlit.runs.runlog import RunLog

__all__ = [
    "AttentionFilm",
    "Board",
    "ClientAccuracy",
    "MetricsTable",
    "Outcome",
    "Participation",
    "Pictures",
    "RoundProgress",
    "RunLog",
    "checkpoints",
    "loggers_of",
    "own_loggers",
    "place_own",
    "read_runs",
]
