"""Start a job without importing torch: fork it from a process that already has.

    python -I -S kdq/workflow/launch.py SCRIPT --input data=FILE ...

The import takes a second, as long as many jobs. So the first job of a run starts a launcher, which imports the
libraries and listens at a socket; each job is a fork of it that imports this package anew, as it is on disk. The
launcher ends after half a minute without a job. A job behaves as if it ran by itself: it has the environment, folder,
output, umask, limits, processors and signals of this command, and is killed with this command or Snakemake. What a
process can't take on, such as groups, cgroup, namespaces and priority, is part of the socket's name: only jobs that
have it in common share a launcher.

Without a launcher (:func:`notice`, or KDQ_LAUNCHER=off) the job runs by itself, as ``python -m kdq.workflow.job``.
This file needs the standard library alone.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import resource
import selectors
import signal
import socket
import stat
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
LIBRARY_VARIABLES = ("OMP_", "MKL_", "KMP_", "OPENBLAS_", "GOMP_", "CUDA_", "TORCH", "PYTORCH_", "LD_", "PYTHON")
LIBRARY_VARIABLES += ("LC_", "LANG", "MALLOC_", "GLIBC_")
LIMITS = sorted(name for name in dir(resource) if name.startswith("RLIMIT_"))
IDENTITY = ("Uid", "Gid", "Groups", "CapEff", "NoNewPrivs", "Seccomp")  # lines of /proc/self/status


def main(arguments: list[str]) -> int:
    """Run the job by the launcher and return its exit code; without one, become ``python -m kdq.workflow.job``."""
    connection = connect()
    with hold_device():
        return run(connection, arguments)


def run(connection: socket.socket | None, arguments: list[str]) -> int:
    if connection is None or not is_started(connection, arguments):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HOME), os.environ.get("PYTHONPATH")]))
        os.execv(sys.executable, [sys.executable, "-m", "kdq.workflow.job", *arguments])
    for number in set(FORWARDED) - set(ignored_signals()):
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
            "umask": umask(),
            "limits": [resource.getrlimit(getattr(resource, name))[0] for name in LIMITS],
            "ignored": ignored_signals(),
            "processors": sorted(os.sched_getaffinity(0)),
        }
    ).encode()
    try:
        socket.send_fds(connection, [struct.pack("!I", len(request))], [0, 1, 2])
        connection.sendall(request)
        return connection.recv(1) == STARTED
    except OSError:
        return False


def umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def ignored_signals() -> list[int]:
    """Return the signals that this process ignores, as below nohup, and so must its job."""
    return [number for number in FORWARDED if signal.getsignal(number) is signal.SIG_IGN]


def hold_device() -> contextlib.AbstractContextManager:
    """Restrict this process to one of several visible GPUs and return the lock that holds it to the end of the job."""
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    installed = sum(name.startswith("nvidia") and name[6:].isdigit() for name in os.listdir("/dev"))
    if "," not in setting if setting is not None else installed < 2:
        return contextlib.nullcontext()  # at most one, known at once: most jobs are short
    sys.path.insert(0, str(HOME))
    from kdq.workflow import gpus

    devices = gpus.visible(setting, installed)
    if len(devices) < 2:
        return contextlib.nullcontext()
    try:
        device, lock = gpus.hold(devices, private_folder())
    except OSError:
        return contextlib.nullcontext()
    os.set_inheritable(lock.fileno(), True)  # by the job that this process becomes without a launcher
    os.environ["CUDA_VISIBLE_DEVICES"] = device
    return lock


def connect() -> socket.socket | None:
    """Return a connection to the launcher, started if necessary; None if there can't be one."""
    if os.environ.get("KDQ_LAUNCHER") == "off":
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


def notice() -> list[str]:
    """Return a line if jobs can't be launched, for the beginning of a run; nothing if the user has it so."""
    if os.environ.get("KDQ_LAUNCHER") == "off":
        return []
    try:
        socket_path()
    except OSError as error:
        return [f"Every job imports torch anew, about a second each: no launcher, since {error}\n"]
    return []


def socket_path() -> Path:
    """Return the socket of the launcher for this package, Python, environment and kind of process.

    Raise OSError, with the reason, if there can't be a launcher.
    """
    if not hasattr(os, "pidfd_open"):
        raise OSError("it needs Linux 5.3 or later")
    if resource.getrlimit(resource.RLIMIT_CPU)[1] != resource.RLIM_INFINITY:
        raise OSError("a limit on CPU time (ulimit -t) would end it")
    variables = sorted(pair for pair in os.environ.items() if pair[0].startswith(LIBRARY_VARIABLES))
    facts = json.dumps([str(HOME), sys.executable, variables, unsendable()])
    return private_folder() / f"{hashlib.sha256(facts.encode()).hexdigest()[:16]}.socket"


def unsendable() -> list:
    """Return what a process has from its start and can't take on, or not without privileges."""
    own = Path("/proc/self")
    status = (own / "status").read_text(encoding="utf-8").splitlines()
    return [
        [line for line in status if line.partition(":")[0] in IDENTITY],
        [(own / name).read_text(encoding="utf-8") for name in ("cgroup", "oom_score_adj")],
        [os.readlink(path) for path in [own / "root", *sorted((own / "ns").iterdir())]],
        [resource.getrlimit(getattr(resource, name))[1] for name in LIMITS],
        [os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)],
    ]


def private_folder() -> Path:
    """Return a folder of the user alone, created if missing; raise OSError with the reasons if there can't be one."""
    reasons = []
    for place in filter(None, (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir())):
        folder = Path(place) / f"kdq-{os.getuid()}"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            status = folder.lstat()
        except OSError as error:
            reasons.append(f"{folder}: {error.strerror}")
            continue
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077:
            return folder
        reasons.append(f"{folder}: others may write there")
    raise OSError("; ".join(reasons))


@contextlib.contextmanager
def address(path: Path):
    """Yield a short address of the socket ``path``: those of more than 107 bytes are refused."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def connect_to(path: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        with address(path) as short:
            connection.connect(short)
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
        with address(aside) as short:
            self.listener.bind(short)
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

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the launcher
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    code = 1
    try:
        take_on(request)
        sys.path.insert(0, str(HOME))
        sys.argv = ["kdq.workflow.job", *request["arguments"]]
        runpy.run_module("kdq.workflow.job", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    except KeyboardInterrupt:  # before the job has a log
        code = 128 + signal.SIGINT
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def take_on(request: dict) -> None:
    """Give this process what the command has that sent the request."""
    for number in FORWARDED:
        handler = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in request["ignored"] else handler)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    tempfile.tempdir = None  # of the launcher's environment
    os.umask(request["umask"])
    os.sched_setaffinity(0, request["processors"])
    for name, soft in zip(LIMITS, request["limits"], strict=True):
        limit = getattr(resource, name)
        resource.setrlimit(limit, (soft, resource.getrlimit(limit)[1]))


def raise_limits() -> None:
    """Raise the soft limits of the launcher to the hard ones, which all its jobs have too."""
    for limit in (getattr(resource, name) for name in LIMITS):
        hard = resource.getrlimit(limit)[1]
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (hard, hard))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        sys.path[:] = [entry for entry in sys.path if Path(entry) != Path(__file__).resolve().parent]
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # if all processes get it, the jobs report where they stop
        raise_limits()
        Launcher(Path(sys.argv[2])).run()
    else:
        sys.exit(main(sys.argv[1:]))
