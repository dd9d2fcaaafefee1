"""Runs behind ``server.sh`` and ``site.sh`` of a project: check the options, and start Flower's own program.

    python -m fedlit.flower.start server OPTIONS OF flower-superlink
    python -m fedlit.flower.start site FILE.yaml OPTIONS OF flower-supernode

Mistakes that Flower reports in many lines are reported in one, with the remedy. This module uses the standard library
only, so that it starts fast.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from fedlit.core.errors import InputError
from fedlit.flower.relay import KEY

#: Turns off Flower's telemetry and its check for newer versions.
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
#: Default ports of Flower's programs.
PORTS = {"flower-superlink": 8000, "flower-supernode": 9094}


def server(words: Sequence[str]) -> NoReturn:
    """Replace this process by ``flower-superlink``."""
    program = _found("flower-superlink", words)
    os.execve(program, [program, "--disable-runtime-dependency-installation", *words], {**os.environ, **QUIET})


def site(words: Sequence[str]) -> int:
    """Run ``flower-supernode`` with a site's file until it ends.

    Raises:
        InputError: If there is no such file, or the given CA did not sign the server's certificate.
    """
    if not words or not Path(words[0]).is_file():
        given = words[0] if words else "nothing"
        raise InputError(f"{given} is not a file; give ./site.sh the site's own file")
    file, *options = words
    authority, address = option(options, "--root-certificates"), option(options, "--superlink") or "127.0.0.1:8000"
    if authority:
        check_certificate(address, authority)
    program = _found("flower-supernode", options)
    status = _status([program, "--node-config", f'{KEY}="{Path(file).resolve()}"', *options])
    if status > 0 and (key := option(options, "--auth-supernode-private-key")):
        raise InputError(
            f"the SuperNode ended with status {status}; if it says that it failed to activate, the server does not "
            f"know its key: register it at the server by flwr supernode register {Path(key).name}.pub --name NAME"
        )
    return status


def option(words: Sequence[str], name: str) -> str | None:
    """The value of an option among words, ``--name value`` or ``--name=value``."""
    for word, value in zip(words, [*words, ""][1:], strict=True):
        if word == name:
            return value
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
    return None


def check_port(host: str, port: int) -> None:
    """Refuse a port that another program uses.

    Raises:
        InputError: Naming it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(f"port {port} of {host} cannot be used ({error.strerror}); give another --port") from error


def check_certificate(address: str, authority: str) -> None:
    """Refuse a server whose certificate an authority did not sign. If the server cannot be reached, Flower will wait.

    Args:
        address: HOST:PORT.
        authority: The file of the CA's certificate.

    Raises:
        InputError: Naming both.
    """
    host, _, port = address.rpartition(":")
    try:
        context = ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"--root-certificates {authority} is not a certificate; give the server's ca.crt") from error
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10) as plain:
            context.wrap_socket(plain, server_hostname=host.strip("[]")).close()
    except ssl.SSLCertVerificationError as error:
        raise InputError(
            f"the certificate of {address} does not match {authority} ({error.verify_message}); give the ca.crt that "
            "signed it, and a host name that is in it"
        ) from error
    except ssl.SSLError as error:
        raise InputError(
            f"{address} does not use TLS ({error.reason}); was its server started with --insecure?"
        ) from error
    except ValueError as error:
        raise InputError(f"--superlink must be HOST:PORT, got {address}") from error
    except OSError:
        pass


def _found(program: str, words: Sequence[str]) -> str:
    """The path of one of Flower's programs, after checking that its port is free."""
    path = shutil.which(program)
    if path is None:
        raise InputError(f"{program} is not found; install it by pip install 'fedlit[flower]'")
    host, port = option(words, "--host") or "127.0.0.1", option(words, "--port") or str(PORTS[program])
    if not port.isdecimal():
        raise InputError(f"--port must be a number, got {port}")
    check_port(host, int(port))
    return path


def _status(command: Sequence[str]) -> int:
    """Run a program until it ends, and pass on SIGTERM."""
    process = subprocess.Popen(command, env={**os.environ, **QUIET})
    signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the program has received it too
            continue


def main(words: Sequence[str]) -> int:
    """Start the server or a site, as the first argument says.

    Returns:
        The program's status; 2 for a mistake in the arguments.
    """
    try:
        return {"server": server, "site": site}[words[0]](words[1:])
    except InputError as error:
        sys.stderr.write(f"fedlit: error: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
