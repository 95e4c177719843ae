"""A python whose ``-m rnn_imdb.COMMAND`` needs no seconds to import torch and Lightning: a server forks it.

    forked.py serve SOCKET                   imports them once, and forks a process for each command asked for
    forked.py ask SOCKET PYTHON ARGUMENTS    what takes the place of PYTHON ARGUMENTS: the process is forked where that
                                             makes no difference, else PYTHON runs

The forked process has the streams, folder, environment and arguments of the one that asks, which hands on signals, ends
as it ends, and takes it along when killed. What is read while Python or the libraries start is not read again, so where
that differs PYTHON runs.
"""

import json
import os
import runpy
import select
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

PRELOADED = (
    "rnn_imdb.training.run",
    "rnn_imdb.training.evaluation",
    "rnn_imdb.sweeps.plots",
    "lightning.pytorch.loggers.tensorboard",
)
# beginnings of names of what is read at start-up
READ_AT_START = ("OMP_", "MKL_", "ATEN_", "LD_", "PYTHON", "MPL", "TRITON_", "LC_", "LANG")
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def settings() -> list[Any]:
    """What must be the same for a fork to make no difference: it is not handed on, or not read again."""
    status = Path("/proc/self/status").read_text().splitlines()
    own = [line for line in status if line.startswith(("Umask", "Uid", "Gid", "SigIgn"))]
    read = sorted(list(item) for item in os.environ.items() if item[0].startswith(READ_AT_START))
    return [os.getsid(0), own, Path("/proc/self/limits").read_text(), read]


def receive(connection: socket.socket) -> bytes:
    """One line."""
    line = b""
    while not line.endswith(b"\n"):
        part = connection.recv(65536)
        if not part:
            raise SystemExit(1)
        line += part
    return line


def serve(path: str) -> None:
    for module in PRELOADED:
        import_module(module)
    # children need not be waited for
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    with listener:
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                break
            connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    connection.sendall(json.dumps(settings()).encode() + b"\n")
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    request = json.loads(receive(connection))
    child = os.fork()
    if child == 0:
        connection.close()
        become(request, streams)
        return
    for stream in (0, 1, 2, *streams):
        os.close(stream)
    connection.sendall(f"{child}\n".encode())
    ended = os.pidfd_open(child)
    if ended not in select.select([connection, ended], [], [])[0]:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def become(request: dict[str, Any], streams: list[int]) -> None:
    """Be ``python -m MODULE`` in the place of the process that asked."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))
    sys.path[0] = str(Path.cwd())
    sys.argv = ["", *request["arguments"]]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def ask(path: str, python: str, arguments: list[str]) -> None:
    if arguments[:1] != ["-m"] or not arguments[1].startswith("rnn_imdb"):
        os.execv(python, [python, *arguments])
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    if json.loads(receive(connection)) != settings():
        os.execv(python, [python, *arguments])
    module, *rest = arguments[1:]
    request = {"folder": str(Path.cwd()), "environment": dict(os.environ), "module": module, "arguments": rest}
    socket.send_fds(connection, [b"\0"], [0, 1, 2])
    connection.sendall(json.dumps(request).encode() + b"\n")
    child = int(receive(connection))
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: os.kill(child, number))
    # a reader waits for all who could write
    for stream in (0, 1, 2):
        os.close(stream)
    code = int(receive(connection))
    if code < 0:
        if -code in PASSED_ON:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        ask(sys.argv[2], sys.argv[3], sys.argv[4:])
