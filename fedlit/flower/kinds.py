"""The frames that server and sites exchange: what is asked, and what is answered."""

from __future__ import annotations

from fedlit.flower.frame import Kind

#: What every question of the server's says of the federation, beside the means and deviations of the data's channels.
#: ``single`` names those of them that are one number for all channels.
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
#: A network's state, see ``fedlit.core.records.Weights``.
STATE = {"floats": ("<f4", "<f8"), "counts": ("<i8",), "flags": ("|b1",)}

#: To a site: what are you?
GREETING = Kind("greeting", TERMS, STATISTICS)
#: From a site: this. ``name`` is its own word; ``examples`` is n_k; ``data`` a hash of its examples, with its name.
INTRODUCTION = Kind(
    "introduction",
    {
        **dict.fromkeys(("name", "fedlit", "torch", "layout", "loss", "optimizer", "algorithm", "client"), str),
        **{"inputs": str, "classes": list, "examples": int, "data": str},
    },
    {},
)
#: To a site: fit this model. ``kept`` is the round that left what the client is to begin with, ``crc`` its checksum;
#: -1 is nothing. ``needed`` are the rounds whose versions a checkpoint needs: all others before this round can go.
TASK = Kind(
    "task",
    {
        **TERMS,
        **dict.fromkeys(("client", "round", "seed", "steps", "examples", "kept", "crc"), int),
        **{"federation": str, "diagnose": bool, "rate": float, "precision": str},
    },
    {**STATISTICS, **STATE, "message": ("<f4", "<f8"), "mu": ("<f8",), "needed": ("<i8",)},
)
#: From a site: the fitted model. ``crc`` is of what the client keeps; -1 is nothing.
UPDATE = Kind(
    "update",
    {"federation": str, "client": int, "round": int, "data": str, "crc": int, "measured": list},
    {**STATE, "squares": ("<f8",), "metrics": ("<f8",)},
)
#: From a site: why there is no answer.
FAILURE = Kind("failure", {"reason": str}, {})
