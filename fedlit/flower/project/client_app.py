"""The ClientApp of this project."""

from pathlib import Path

from fedlit.flower.apps import client_app

app = client_app(Path(__file__).parent)
