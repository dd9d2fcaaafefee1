"""The ServerApp of this project."""

from pathlib import Path

from fedlit.flower.apps import server_app

app = server_app(Path(__file__).parent)
