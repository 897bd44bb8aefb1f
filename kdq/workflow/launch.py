"""Start a job without importing torch: fork it from a process that already has.

    python -I -S kdq/workflow/launch.py SCRIPT --input data=FILE ...

The import takes a second, as long as many jobs. So the first job of a run starts a launcher, which imports the
libraries and listens at a socket; each job is a fork of it that imports this package anew, as it is on disk. The
launcher ends after half a minute without a job. A job behaves as if it ran by itself: it has the environment, folder,
output, priority and signals of this command, and is killed with this command or Snakemake.

Without a launcher (not on Linux, or KDQ_LAUNCHER=off) the job runs by itself, as ``python -m kdq.workflow.job``.
This file is run, not imported, and needs the standard library alone.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
IDLE_SECONDS = 30
STARTED = b"1"
START_SECONDS = 120  # for 2 GB of libraries on a cold disk
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
PRELOADED = ("torch", "torch._dynamo", "numpy", "safetensors.torch", "tqdm", "pydantic", "grimp", "constriction")
# prefixes of variables that libraries read when they are loaded: jobs share a launcher if these are equal
LIBRARY_VARIABLES = ("OMP_", "MKL_", "KMP_", "OPENBLAS_", "GOMP_", "CUDA_", "TORCH_", "PYTORCH_", "LD_", "PYTHON")


def main(arguments: list[str]) -> int:
    """Run the job by the launcher and return its exit code; without one, become ``python -m kdq.workflow.job``."""
    connection = connect()
    if connection is None or not is_started(connection, arguments):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HOME), os.environ.get("PYTHONPATH")]))
        os.execv(sys.executable, [sys.executable, "-m", "kdq.workflow.job", *arguments])
    for number in FORWARDED:
        signal.signal(number, lambda number, frame: connection.sendall(bytes([number])))
    answer = receive_code(connection)
    if len(answer) < 4:
        sys.stderr.write("error: the launcher of the jobs ended before this one; start snakemake again\n")
        return 1
    code = struct.unpack("!i", answer)[0]
    if code < 0:
        name = signal.Signals(-code).name
        sys.stderr.write(f"error: the job was killed, by {name} (too little memory?); start snakemake again\n")
    return code if code >= 0 else 128 - code  # as in a shell


def receive_code(connection: socket.socket) -> bytes:
    """Return the job's exit code as the launcher sends it, or b"" if Snakemake was killed, whose job then ends too."""
    parent = os.getppid()
    connection.settimeout(1)
    while os.getppid() == parent:
        with contextlib.suppress(TimeoutError):
            return connection.recv(4)
    return b""


def is_started(connection: socket.socket, arguments: list[str]) -> bool:
    """Send the job to the launcher and return whether it started: not if the launcher was about to end."""
    request = json.dumps(
        {
            "arguments": arguments,
            "folder": os.getcwd(),
            "environment": dict(os.environ),
            "priority": os.getpriority(os.PRIO_PROCESS, 0),
            "processors": sorted(os.sched_getaffinity(0)),
        }
    ).encode()
    try:
        socket.send_fds(connection, [struct.pack("!I", len(request))], [0, 1, 2])
        connection.sendall(request)
        return connection.recv(1) == STARTED
    except OSError:
        return False


def connect() -> socket.socket | None:
    """Return a connection to the launcher, started if necessary; None if there can't be one."""
    if not hasattr(os, "pidfd_open") or os.environ.get("KDQ_LAUNCHER") == "off":
        return None
    try:
        path = socket_path()
        if connection := connect_to(path):
            return connection
        with open(path.with_suffix(".lock"), "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return connect_to(path) or start(path)
    except OSError:
        return None


def socket_path() -> Path:
    """Return the socket of the launcher for this package, Python and environment, in a folder of the user alone."""
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"kdq-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{folder}: others may write there")
    variables = sorted(pair for pair in os.environ.items() if pair[0].startswith(LIBRARY_VARIABLES))
    facts = json.dumps([str(HOME), sys.executable, variables])
    return folder / f"{hashlib.sha256(facts.encode()).hexdigest()[:16]}.socket"


def connect_to(path: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        return None
    return connection


def start(path: Path) -> socket.socket | None:
    """Start a launcher and return a connection once it listens; None if it ends before that."""
    launcher = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), "--serve", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # an interrupt of this command must not reach jobs of others
        cwd="/",
    )
    latest = time.monotonic() + START_SECONDS
    while launcher.poll() is None and time.monotonic() < latest:
        if connection := connect_to(path):
            return connection
        time.sleep(0.02)
    launcher.kill()
    return None


class Launcher:
    """A server that forks a job for every connection to its socket."""

    def __init__(self, path: Path):
        for name in PRELOADED:
            __import__(name)
        sys.modules["pydantic"].create_model("Any")  # its imports happen at the first model
        self.selector = selectors.DefaultSelector()
        self.jobs: dict[int, socket.socket] = {}  # by the job's pidfd
        self.processes: dict[socket.socket, int] = {}
        self.listener = socket.socket(socket.AF_UNIX)
        aside = path.with_suffix(f".{os.getpid()}")
        self.listener.bind(str(aside))
        self.listener.listen(128)
        os.replace(aside, path)  # the name appears once connections are accepted
        self.path = path
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)

    def run(self) -> None:
        """Serve until there was no request and no job for ``IDLE_SECONDS``."""
        while events := self.selector.select(None if self.jobs else IDLE_SECONDS):
            for key, _ in events:
                if key.fd in self.selector.get_map():  # an earlier event may have closed this one
                    key.data(key.fileobj)
        self.path.unlink(missing_ok=True)

    def accept(self, listener) -> None:
        connection, _ = listener.accept()
        try:
            connection.settimeout(10)
            request, descriptors = read_request(connection)
        except (OSError, ValueError, struct.error):
            connection.close()
            return
        process = os.fork()
        if process == 0:
            self.selector.close()
            for inherited in (listener, connection, *self.processes):
                inherited.close()
            become_job(request, descriptors)
        with contextlib.suppress(OSError):
            connection.sendall(STARTED)
        for descriptor in descriptors:
            os.close(descriptor)
        watched = os.pidfd_open(process)
        self.jobs[watched], self.processes[connection] = connection, process
        self.selector.register(watched, selectors.EVENT_READ, self.finish)
        self.selector.register(connection, selectors.EVENT_READ, self.signal)

    def signal(self, connection) -> None:
        """Pass a signal of the command on to its job; kill the job of a command that is gone."""
        with contextlib.suppress(OSError):
            received = connection.recv(1)
            os.kill(self.processes[connection], received[0] if received else signal.SIGKILL)
            if received:
                return
        self.selector.unregister(connection)

    def finish(self, watched: int) -> None:
        connection = self.jobs.pop(watched)
        code = os.waitstatus_to_exitcode(os.waitpid(self.processes.pop(connection), 0)[1])
        self.selector.unregister(watched)
        os.close(watched)
        with contextlib.suppress(KeyError):
            self.selector.unregister(connection)
        with contextlib.suppress(OSError):
            connection.sendall(struct.pack("!i", code))
        connection.close()


def read_request(connection: socket.socket) -> tuple[dict, list[int]]:
    """Return the request of a command, and its standard input, output and error."""
    head, descriptors, _, _ = socket.recv_fds(connection, 4, 3)
    with connection.makefile("rb") as file:
        return json.loads(file.read(*struct.unpack("!I", head))), descriptors


def become_job(request: dict, descriptors: list[int]):
    """Turn this fork into the job as ``python -m kdq.workflow.job`` would run it, and end with it."""
    import ctypes
    import runpy

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the launcher
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    code = 1
    try:
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        os.sched_setaffinity(0, request["processors"])
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, request["priority"])
        sys.path.insert(0, str(HOME))
        sys.argv = ["kdq.workflow.job", *request["arguments"]]
        runpy.run_module("kdq.workflow.job", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        sys.path[:] = [entry for entry in sys.path if Path(entry) != Path(__file__).resolve().parent]
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # if all processes get it, the jobs report where they stop
        Launcher(Path(sys.argv[2])).run()
    else:
        sys.exit(main(sys.argv[1:]))
