"""A server and sites as processes of their own, on 127.0.0.1 and free ports, as a project's scripts start them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fedlit.flower.command import write_project

ROOT = Path(__file__).parents[2]
SIZES = {"north": 12, "south": 9, "west": 7}
#: More of each site's file.
SITE: dict[str, Any] = {"accelerator": "cpu"}
#: A network that waits in a fit while its site's folder has a file ``hang``, and says so by ``hanging``.
NET = """
import time
from pathlib import Path

from fedlit.models import MLP


class Patient(MLP):
    def forward(self, x):
        while self.training and len(x) > 2 and Path("hang").exists():  # two are what a network is tried with
            Path("hanging").touch()
            time.sleep(0.05)
        return super().forward(x)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 300.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.1)
    return found


class Loopback:
    """A federation in a folder.

    Args:
        folder: Of everything.
        rounds: Of the run.
        secure: Whether with TLS and a key for each site.
    """

    def __init__(self, folder: Path, rounds: int, secure: bool = False) -> None:
        self.folder, self.secure, self.port = folder, secure, free_port()
        self.project = folder / "project"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        write_project(self.project)
        (self.project / "patient.py").write_text(NET)
        self._config(rounds)
        for name, count in SIZES.items():
            (folder / name).mkdir()
            np.savez(folder / name / "data.npz", **self.arrays(name, count))
            data = {
                "class_path": "fedlit.data.Tensors",
                "init_args": {"path": "data.npz", "class_names": ["a", "b", "c"]},
            }
            (folder / name / "site.yaml").write_text(yaml.safe_dump({"name": name, "data": data, **SITE}))
        connection = f'root-certificates = "{folder}/ca.crt"' if secure else "insecure = true"
        text = f'[superlink]\ndefault = "server"\n[superlink.server]\naddress = "127.0.0.1:{self.port}"\n{connection}\n'
        (self.project / ".flwr" / "config.toml").write_text(text)
        if secure:
            certificates(folder)

    @staticmethod
    def arrays(name: str, count: int) -> dict[str, Any]:
        rng = np.random.default_rng(len(name) + count)
        return {"inputs": rng.normal(size=(count, 5)).astype(np.float32), "labels": np.arange(count) % 3}

    def _config(self, rounds: int) -> None:
        np.savez(self.folder / "held_out.npz", **self.arrays("server", 20))
        named = {"path": str(self.folder / "held_out.npz"), "class_names": ["a", "b", "c"]}
        net = {"class_path": "patient.Patient", "init_args": {"image_size": 1, "hidden": [8]}}
        config = {
            "data": {
                "class_path": "fedlit.flower.Sites",
                "init_args": {
                    "sites": [*SIZES],
                    "registered": self.secure,
                    "held_out": {"class_path": "fedlit.data.Tensors", "init_args": named},
                    "batch_size": 4,
                },
            },
            "model": {"net": net, "mu": 0.0},
            "federation": {
                "clients_per_round": 3,
                "algorithm": {"class_path": "fedlit.algorithms.Scaffold"},
                "averaging": "uniform",
                "engine": {"class_path": "fedlit.flower.FlowerEngine", "init_args": {"timeout_s": 240}},
            },
            "trainer": {"max_epochs": rounds, "accelerator": "cpu", "enable_progress_bar": False},
        }
        (self.project / "federation.yaml").write_text(yaml.safe_dump(config))

    def environment(self, home: str) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        homes = {"FLWR_HOME": str(self.folder / home), "TMPDIR": str(self.folder), "PATH": path}
        return {**os.environ, **homes, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}

    def start(self, name: str, *words: str) -> None:
        """Start a script of the project in its own process group."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(self.project / words[0]), *words[1:]],
                env=self.environment(f"home_{name}"),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def server(self) -> None:
        tls = "--ssl-ca-certfile ca.crt --ssl-certfile server.crt --ssl-keyfile server.key".split()
        words = [*tls, "--enable-supernode-auth"] if self.secure else ["--insecure"]
        self.start("server", "server.sh", *words, "--port", str(self.port), "--database", "state.db")
        wait_for(lambda: connects(self.port), "server")

    def site(self, name: str, *words: str) -> None:
        keys = ["--root-certificates", "ca.crt", "--auth-supernode-private-key", f"{name}.key"]
        given = words or (keys if self.secure else ["--insecure"])
        address = ["--superlink", f"127.0.0.1:{self.port}", "--port", str(free_port())]
        self.start(name, "site.sh", f"{name}/site.yaml", *given, *address)

    def flwr(self, *words: str) -> str:
        environment = {**self.environment("none"), "FLWR_HOME": str(self.project / ".flwr")}
        command = [str(Path(sys.executable).with_name("flwr")), *words]
        done = subprocess.run(command, env=environment, cwd=self.project, capture_output=True, timeout=120)
        return (done.stdout + done.stderr).decode()

    def run(self, arguments: str = "", name: str = "run") -> None:
        """Start a run whose output goes to ``NAME.log``."""
        self.start(name, "run.sh", *(["-c", f'args="{arguments}"'] if arguments else []))

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait(self, text: str, name: str = "run") -> None:
        wait_for(lambda: text in self.log(name), f"{text!r} in {name}.log")

    def kill(self, name: str) -> None:
        """Kill a process and its children by SIGKILL."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def trainer(self, name: str) -> int:
        """The process number of a site's training process."""
        of_site = str(self.folder / name / "site.yaml").encode()
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            if b"fedlit.flower.resident" in words and of_site in words:
                return int(path.parent.name)
        raise AssertionError(f"no process trains at {name}")

    def close(self) -> None:
        for name in [*self.processes]:
            self.kill(name)
        for name in SIZES:
            try:
                os.kill(self.trainer(name), signal.SIGKILL)
            except (AssertionError, ProcessLookupError):
                continue


def connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def certificates(folder: Path) -> None:
    """A CA, the server's certificate, and a key for each site and for a stranger."""
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes".split()
    run = {"cwd": folder, "check": True, "capture_output": True}
    for authority in ("ca", "other"):
        files = ["-keyout", f"{authority}.key", "-out", f"{authority}.crt", "-subj", f"/CN={authority}"]
        subprocess.run(["openssl", "req", "-x509", *key, *files, "-days", "2"], **run)  # type: ignore[call-overload]
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    request = ["openssl", "req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"]
    subprocess.run(request, **run)  # type: ignore[call-overload]
    signed = "openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names"
    subprocess.run([*signed.split(), "-out", "server.crt"], **run)  # type: ignore[call-overload]
    for name in (*SIZES, "stranger"):
        command = [*f"ssh-keygen -q -t ecdsa -b 384 -C {name} -f {name}.key -N".split(), ""]
        subprocess.run(command, **run)  # type: ignore[call-overload]
