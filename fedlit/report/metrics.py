"""The metrics of a run: names, meanings, and whether higher or lower is better."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Stability and fairness are measured over this many rounds at the end of a run.
LAST_ROUNDS = 10


@dataclass(frozen=True)
class Metric:
    """A number of each run.

    Args:
        key: Its column in the tables of numbers.
        title: Its name in a report.
        topic: The table of the report that has it.
        sign: 1 if higher is better, -1 if lower is better, 0 if neither.
        digits: Number of digits after the point.
        meaning: A one-line explanation.
        most: The largest possible value; 1 for a share. The smallest is 0.
        timed: Whether it depends on the machine and its load.
        needs: What a run must have for it, if not every run has it.
    """

    key: str
    title: str
    topic: str
    sign: int
    digits: int
    meaning: str
    most: float = math.inf
    timed: bool = False
    needs: str = ""


ON_TRAINING, ON_HELD_OUT = "Fairness, on clients' training data", "Fairness, on data that clients hold out"
CLIENTS = "clients.csv of the compared round, which fedlit fit writes after the last round"

METRICS = (
    Metric("accuracy", "final accuracy", "Accuracy and loss", 1, 3, "global/accuracy after the last round", most=1),
    Metric(
        "best_accuracy",
        "best accuracy",
        "Accuracy and loss",
        1,
        3,
        "the highest global/accuracy of any round, which favours unsteady runs",
        most=1,
    ),
    Metric("loss", "final loss", "Accuracy and loss", -1, 3, "global/loss after the last round"),
    Metric("f1_macro", "macro F1", "Accuracy and loss", 1, 3, "global/f1_macro after the last round", most=1),
    Metric(
        "wobble",
        "wobble",
        "Stability",
        -1,
        4,
        f"spread of accuracy around its straight trend line, last {LAST_ROUNDS} rounds",
        needs="three rounds of a model that learns",
    ),
    Metric(
        "std",
        "std",
        "Stability",
        -1,
        4,
        f"standard deviation of accuracy over the last {LAST_ROUNDS} rounds",
        needs="two rounds of a model that learns",
    ),
    Metric(
        "largest_drop",
        "largest drop",
        "Stability",
        -1,
        4,
        "the largest fall of accuracy from one round to the next",
        needs="two rounds of a model that learns",
    ),
    Metric(
        "change",
        "mean change",
        "Stability",
        -1,
        4,
        "mean of |accuracy - accuracy one round before|, all rounds",
        needs="two rounds of a model that learns",
    ),
    Metric(
        "client_mean",
        "mean client",
        ON_TRAINING,
        1,
        3,
        "mean over all clients of the final global model's accuracy on their training data (clients.csv)",
        most=1,
        needs=CLIENTS,
    ),
    Metric(
        "client_std",
        "std of clients",
        ON_TRAINING,
        -1,
        3,
        "standard deviation of these accuracies over clients",
        needs=CLIENTS,
    ),
    Metric(
        "client_p10", "client p10", ON_TRAINING, 1, 3, "the 10th percentile of these accuracies", most=1, needs=CLIENTS
    ),
    Metric(
        "client_worst",
        "worst decile",
        ON_TRAINING,
        1,
        3,
        "mean over the tenth of clients with the lowest accuracies",
        most=1,
        needs=CLIENTS,
    ),
    Metric(
        "clients_mean",
        "mean client, in fits",
        ON_TRAINING,
        1,
        3,
        f"clients/accuracy_mean, training accuracy of the cohort, mean of the last {LAST_ROUNDS} rounds",
        most=1,
    ),
    Metric(
        "clients_p10",
        "client p10, in fits",
        ON_TRAINING,
        1,
        3,
        "clients/accuracy_p10 over the cohort, mean of the same rounds",
        most=1,
    ),
    Metric(
        "own_mean",
        "mean client, own",
        ON_HELD_OUT,
        1,
        3,
        f"clients/own_accuracy_mean of the cohort on their own held-out data, mean of the last {LAST_ROUNDS} rounds",
        most=1,
        needs="data.client_holdout",
    ),
    Metric(
        "own_p10",
        "client p10, own",
        ON_HELD_OUT,
        1,
        3,
        "clients/own_accuracy_p10 over the cohort, mean of the same rounds",
        most=1,
        needs="data.client_holdout",
    ),
    Metric("to_target", "rounds to target", "Cost", -1, 1, "the first round with the target accuracy"),
    Metric("seconds", "seconds a round", "Cost", -1, 2, "median of round/seconds, evaluation excluded", timed=True),
    Metric(
        "values", "values sent", "Cost", 0, 0, "numbers in the model as sent to a client: its parameters and buffers"
    ),
    Metric("megabytes", "megabytes sent", "Cost", 0, 0, "down and up over all rounds, 10^6 bytes"),
)
#: Prefix of the key of a metric that is a column of ``metrics.csv``; the column may have the name of another metric.
COLUMN = "column "


def column_metric(column: str) -> Metric:
    """The metric for a column of ``metrics.csv``, for example one that the user's callback or client logs."""
    meaning = f"the last value of the column {column} of metrics.csv, up to the compared round"
    return Metric(f"{COLUMN}{column}", column, "Your own metrics", 0, 4, meaning, needs="this column in metrics.csv")


BY_KEY = {metric.key: metric for metric in METRICS}
#: Metrics in which variants are tested against the baseline.
TESTED = (
    "accuracy",
    "best_accuracy",
    "loss",
    "f1_macro",
    "wobble",
    "largest_drop",
    "change",
    "client_p10",
    "clients_p10",
)
