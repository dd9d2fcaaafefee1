"""The kinds of frames that server and sites exchange."""

from __future__ import annotations

from fedlit.flower.frame import Kind

#: The values about the federation in every question of the server, in addition to mean and standard deviation of the
#: channels. ``single`` names those of the two that are one number for all channels.
TERMS = {
    "batch_size": int,
    "client_holdout": float,
    "data_seed": int,
    "classes": list,
    "channels": int,
    "clients": int,
    "single": list,
}
STATISTICS = {"mean": ("<f8",), "std": ("<f8",)}
#: The state of a network, see ``fedlit.core.records.Weights``.
STATE = {"floats": ("<f4", "<f8"), "counts": ("<i8",), "flags": ("|b1",)}

#: To a site: a request to introduce itself.
GREETING = Kind("greeting", TERMS, STATISTICS)
#: From a site: its introduction. ``name`` is its own statement; ``examples`` is n_k; ``data`` is a keyed hash of its
#: examples.
INTRODUCTION = Kind(
    "introduction",
    {
        **dict.fromkeys(("name", "fedlit", "torch", "layout", "loss", "optimizer", "algorithm", "client"), str),
        **{"inputs": str, "classes": list, "examples": int, "data": str},
    },
    {},
)
#: To a site: train this model. ``kept`` is the round whose kept vector the client starts from, and ``crc`` its
#: checksum; -1 is none. ``needed`` are the rounds whose versions a checkpoint needs; other earlier ones can be removed.
TASK = Kind(
    "task",
    {
        **TERMS,
        **dict.fromkeys(("client", "round", "seed", "steps", "examples", "kept", "crc"), int),
        **{"federation": str, "diagnose": bool, "rate": float, "precision": str},
    },
    {**STATISTICS, **STATE, "message": ("<f4", "<f8"), "mu": ("<f8",), "needed": ("<i8",)},
)
#: From a site: the trained model. ``crc`` is the checksum of what the client keeps; -1 is none.
UPDATE = Kind(
    "update",
    {"federation": str, "client": int, "round": int, "data": str, "crc": int, "measured": list},
    {**STATE, "squares": ("<f8",), "metrics": ("<f8",)},
)
#: From a site: the reason why it has not trained.
FAILURE = Kind("failure", {"reason": str}, {})
