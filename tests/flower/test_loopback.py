"""Server and sites as processes, on 127.0.0.1: the bits of one process, with TLS, and through kills."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from loopback import SIZES, Loopback, wait_for

from fedlit.cli import main
from fedlit.runs.read import rows_of

pytestmark = [
    pytest.mark.flower,
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("openssl") or not shutil.which("ssh-keygen"), reason="openssl or ssh is missing"
    ),
]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[list[Loopback]]:
    loops: list[Loopback] = []
    yield loops
    for loop in loops:
        loop.close()


def weights(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]  # type: ignore[no-any-return]


def metrics(run: Path) -> list[dict[str, str]]:
    """A row for each round, without times."""
    return [{k: v for k, v in row.items() if "second" not in k} for row in rows_of(run)]


def in_one_process(loop: Loopback, monkeypatch: pytest.MonkeyPatch, stragglers: str = "") -> Path:
    """The run of the same federation in this process."""
    folder = loop.folder
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(loop.project)
    parts = [loop.arrays(name, count) for name, count in SIZES.items()] + [loop.arrays("server", 20)]
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    owners = np.repeat(np.arange(len(parts)), [*SIZES.values(), 20])
    np.savez(folder / "whole.npz", **whole, groups=owners, n_train=sum(SIZES.values()))
    data = ["--data", "fedlit.data.Tensors", "--data.path", "whole.npz", "--data.class_names", "[a,b,c]"]
    data += ["--data.partition", "fedlit.data.ByGroup", "--data.batch_size", "4"]
    more = ["--federation.stragglers", "fedlit.federated.Trace", "--federation.stragglers.path", stragglers]
    words = ["fit", "--config", str(loop.project / "federation.yaml"), *data, *(more if stragglers else [])]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert main([*words, "--federation.engine", "fedlit.engines.LoopEngine", "--name", "one"]) == 0
    finally:
        torch.set_num_threads(threads)
    return folder / "logs" / "one" / "version_0"


def same(first: Path, second: Path) -> bool:
    expected = weights(second)
    return all(torch.equal(tensor, expected[name]) for name, tensor in weights(first).items())


def test_over_tls_with_keys_the_sites_give_the_bits_of_one_process(
    tmp_path: Path, made: list[Loopback], monkeypatch: pytest.MonkeyPatch
):
    loop = Loopback(tmp_path, rounds=2, secure=True)
    made.append(loop)
    loop.server()
    for name in SIZES:
        assert "registered successfully" in loop.flwr("supernode", "register", f"../{name}.key.pub", "--name", name)
        loop.site(name)
    loop.run()
    loop.wait("run folder:")
    run = tmp_path / "logs" / "federation" / "version_0"
    one = in_one_process(loop, monkeypatch)
    assert metrics(run) == metrics(one)
    assert same(run, one)
    # And those that must not take part are told why in one line.
    key = ["--auth-supernode-private-key"]
    strangers = {
        "unknown_key": (["--root-certificates", "ca.crt", *key, "stranger.key"], "register it at the server"),
        "other_ca": (["--root-certificates", "other.crt", *key, "north.key"], "does not match other.crt"),
    }
    for case, (words, said) in strangers.items():
        shutil.copytree(tmp_path / "north", tmp_path / case)
        loop.site(case, *words)
        loop.processes.pop(case).wait(60)
        (line,) = [line for line in loop.log(case).splitlines() if line.startswith("fedlit: error: ")]
        assert said in line
    loop.start("second", "server.sh", "--insecure", "--port", str(loop.port))
    assert loop.processes.pop("second").wait(60) == 2
    assert f"port {loop.port} of 127.0.0.1 cannot be used" in loop.log("second")


def test_a_site_and_a_server_that_are_killed_in_a_fit_change_nothing_for_the_others(
    tmp_path: Path, made: list[Loopback], monkeypatch: pytest.MonkeyPatch
):
    loop = Loopback(tmp_path, rounds=3)
    made.append(loop)
    loop.server()
    for name in SIZES:
        loop.site(name)
    south, north = tmp_path / "south", tmp_path / "north"
    (south / "hang").touch()
    loop.run()
    wait_for((south / "hanging").exists, "fit at south")
    os.kill(loop.trainer("south"), signal.SIGKILL)  # in the fit of round 1
    (south / "hang").unlink()
    loop.wait("client 1: site south: ")
    assert "the training process died" in loop.log("run")
    (north / "hang").touch()
    wait_for((north / "hanging").exists, "fit at north")  # of round 2 or 3
    loop.kill("server")
    (north / "hang").unlink()
    loop.server()
    loop.run("--ckpt_path last", "again")
    loop.wait("run folder:", "again")
    trace = tmp_path / "trace.csv"
    trace.write_text("client,round,epochs\n1,1,0\n")
    run = tmp_path / "logs" / "federation" / "version_0"
    assert len(rows_of(run)) == 3
    assert same(run, in_one_process(loop, monkeypatch, str(trace)))


def test_the_config_of_a_loopback_is_that_of_a_project(tmp_path: Path):
    loop = Loopback(tmp_path, rounds=1)
    assert yaml.safe_load((loop.project / "federation.yaml").read_text())["data"]["init_args"]["sites"] == [*SIZES]
