"""What ``server.sh`` and ``site.sh`` of a project do: look at what can be known, and start Flower's own program.

    python -m fedlit.flower.start server OPTIONS OF flower-superlink
    python -m fedlit.flower.start site FILE.yaml OPTIONS OF flower-supernode

What Flower tells in many lines is told in one, with the remedy. Standard library alone, so that it takes no time.
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

#: Flower reports nothing to anybody, and looks for no newer version.
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
#: The ports that Flower's programs listen at where they are given none.
PORTS = {"flower-superlink": 8000, "flower-supernode": 9094}


def server(words: Sequence[str]) -> NoReturn:
    """Become ``flower-superlink``."""
    program = _found("flower-superlink", words)
    os.execve(program, [program, "--disable-runtime-dependency-installation", *words], {**os.environ, **QUIET})


def site(words: Sequence[str]) -> int:
    """Run ``flower-supernode`` with a site's file until it ends.

    Raises:
        InputError: When there is no such file, or the server's certificate is not of the CA that was given.
    """
    if not words or not Path(words[0]).is_file():
        given = words[0] if words else "nothing"
        raise InputError(f"{given} is no file; give ./site.sh the site's own file")
    file, *options = words
    authority, address = option(options, "--root-certificates"), option(options, "--superlink") or "127.0.0.1:8000"
    if authority:
        check_certificate(address, authority)
    program = _found("flower-supernode", options)
    status = _status([program, "--node-config", f'{KEY}="{Path(file).resolve()}"', *options])
    if status > 0 and (key := option(options, "--auth-supernode-private-key")):
        raise InputError(
            f"the SuperNode has ended with status {status}; where it says that it failed to activate, the server does "
            f"not know its key: register it there by flwr supernode register {Path(key).name}.pub --name NAME"
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
    """Refuse a port that another program listens at.

    Raises:
        InputError: Naming it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers have it
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(f"port {port} of {host} cannot be used ({error.strerror}); give another --port") from error


def check_certificate(address: str, authority: str) -> None:
    """Refuse a server whose certificate is not of an authority; one that cannot be reached is for Flower to wait for.

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
        raise InputError(f"--root-certificates {authority} is no certificate; give the server's ca.crt") from error
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10) as plain:
            context.wrap_socket(plain, server_hostname=host.strip("[]")).close()
    except ssl.SSLCertVerificationError as error:
        raise InputError(
            f"the certificate of {address} does not fit {authority} ({error.verify_message}); give the ca.crt that "
            "signed it, and the name that it is for"
        ) from error
    except ssl.SSLError as error:
        raise InputError(f"{address} does not speak TLS ({error.reason}); is its server started --insecure?") from error
    except ValueError as error:
        raise InputError(f"--superlink is {address}; give HOST:PORT") from error
    except OSError:
        pass


def _found(program: str, words: Sequence[str]) -> str:
    """The path of one of Flower's programs, whose port is free."""
    path = shutil.which(program)
    if path is None:
        raise InputError(f"{program} is not found; install it by pip install 'fedlit[flower]'")
    host, port = option(words, "--host") or "127.0.0.1", option(words, "--port") or str(PORTS[program])
    if not port.isdecimal():
        raise InputError(f"--port is {port}; give a number")
    check_port(host, int(port))
    return path


def _status(command: Sequence[str]) -> int:
    """Run a program until it ends, and pass on what it is told to stop by."""
    process = subprocess.Popen(command, env={**os.environ, **QUIET})
    signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # which the program has received as well
            continue


def main(words: Sequence[str]) -> int:
    """Start what the first word says.

    Returns:
        The program's status; 2 for a mistake in the words.
    """
    try:
        return {"server": server, "site": site}[words[0]](words[1:])
    except InputError as error:
        sys.stderr.write(f"fedlit: error: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
