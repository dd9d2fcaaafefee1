"""The ServerApp and ClientApp of a project."""

from __future__ import annotations

import shlex
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedlit.flower.grid import connected, content, frame_of
from fedlit.flower.relay import path_in, relay


def words_of(project: Path, context: Context) -> list[str]:
    """The arguments of ``fedlit fit`` from a run's config: the project's file ``config``, and ``args``."""
    return ["--config", str(project / str(context.run_config["config"])), *shlex.split(str(context.run_config["args"]))]


def server_app(project: Path) -> ServerApp:
    """The server: ``fedlit fit`` with the config of a project.

    Args:
        project: Its folder.
    """
    app = ServerApp()

    def main(grid: Grid, context: Context) -> None:
        from fedlit.cli import main as fedlit

        with connected(grid):
            status = fedlit(["fit", *words_of(project, context)])
        if status:
            raise RuntimeError(f"fedlit fit ended with status {status}; its last line says why")

    app.main()(main)
    return app


def client_app(project: Path) -> ClientApp:
    """A site: it describes itself, and trains the models that it is sent.

    Args:
        project: The project's folder at the site.
    """
    app = ClientApp()

    def answer(message: Message, context: Context) -> Message:
        site = path_in(context.node_config)
        found = relay(bytes(frame_of(message)), site, project, words_of(project, context), context.run_id)
        return Message(content(found), reply_to=message)

    app.query("greet")(answer)
    app.train("fit")(answer)
    return app
