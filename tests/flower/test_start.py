"""Mistakes that can be found before Flower's programs start are one line with the remedy."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedlit.core.errors import InputError
from fedlit.flower import start
from fedlit.flower.start import check_certificate, check_port, main, option


@pytest.mark.parametrize(
    ("words", "value"),
    [(["--port", "1"], "1"), (["--port=2"], "2"), (["--host", "x"], None), ([], None), (["--port"], "")],
)
def test_the_value_of_an_option(words: list[str], value: str | None):
    assert option(words, "--port") == value


def test_a_port_in_use_is_refused_and_a_free_one_is_not():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=rf"port {port} of 127\.0\.0\.1 cannot be used .*give another --port"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_a_file_that_is_not_a_certificate_is_refused(tmp_path: Path):
    (tmp_path / "ca.crt").write_text("no certificate")
    for path in (tmp_path / "ca.crt", tmp_path / "none.crt"):
        with pytest.raises(InputError, match="is not a certificate; give the server's"):
            check_certificate("127.0.0.1:1", str(path))


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is missing")
def test_an_unreachable_server_is_left_to_flower_and_one_without_tls_is_refused(tmp_path: Path):
    words = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=ca -keyout k -out ca.crt"
    )
    subprocess.run(words.split(), cwd=tmp_path, check=True, capture_output=True)
    authority = str(tmp_path / "ca.crt")
    with pytest.raises(InputError, match=r"--superlink must be HOST:PORT, got localhost:x"):
        check_certificate("localhost:x", authority)
    plain = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); "
        "c, _ = s.accept(); c.recv(9); c.sendall(b'HTTP/1.1 400 Bad'); c.close()"
    )
    with subprocess.Popen([sys.executable, "-c", plain], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        with pytest.raises(InputError, match=r"does not use TLS .*was its server started with --insecure"):
            check_certificate(f"127.0.0.1:{port}", authority)
    check_certificate(f"127.0.0.1:{port}", authority)  # nobody listens there any more


def test_a_missing_site_file_is_reported(capsys: pytest.CaptureFixture[str]):
    assert main(["site"]) == 2
    assert main(["site", "nowhere.yaml", "--insecure"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "fedlit: error: nothing is not a file; give ./site.sh the site's own file",
        "fedlit: error: nowhere.yaml is not a file; give ./site.sh the site's own file",
    ]


def test_without_flower_its_programs_are_not_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(start.shutil, "which", lambda name: None)
    assert main(["server", "--insecure"]) == 2
    assert "flower-superlink is not found; install it by pip install 'fedlit[flower]'" in capsys.readouterr().err


def test_an_unknown_key_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "a.yaml").touch()
    monkeypatch.setattr(start.shutil, "which", lambda name: sys.executable)
    given: list[Any] = []
    monkeypatch.setattr(start, "_status", lambda words: given.append(words) or 1)
    key = str(tmp_path / "north.key")
    assert main(["site", str(tmp_path / "a.yaml"), "--auth-supernode-private-key", key, "--port", "0"]) == 2
    assert given[0][1:3] == ["--node-config", f'site="{tmp_path / "a.yaml"}"']
    assert "register it at the server by flwr supernode register north.key.pub --name NAME" in capsys.readouterr().err
    assert main(["site", str(tmp_path / "a.yaml"), "--insecure", "--port", "0"]) == 1


def test_starting_and_relaying_import_neither_torch_nor_lightning():
    """A process is started for each message, so its imports add to the time of every round."""
    code = "import sys, fedlit.flower.start, fedlit.flower.grid, fedlit.flower.relay; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.flower
def test_the_apps_of_a_project_import_neither():
    code = "import sys, fedlit.flower.apps; print({'torch', 'lightning', 'jsonargparse'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
