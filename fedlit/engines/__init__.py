"""Ways to train a cohort: engines differ in speed, never in what they compute."""

from fedlit.engines.engine import Engine
from fedlit.engines.loop import LoopEngine
from fedlit.engines.site import Site
from fedlit.engines.trainer import TrainerEngine
from fedlit.engines.vectorized import VectorizedEngine
from fedlit.engines.workers import WorkersEngine

__all__ = ["Engine", "LoopEngine", "Site", "TrainerEngine", "VectorizedEngine", "WorkersEngine"]
