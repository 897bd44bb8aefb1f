"""A launched job is what it would be by itself: output, exit code, folder, environment, signals, code."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdq.workflow import launch

HOME = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="jobs are launched on Linux alone")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A copy of the package with scripts of its own, and an environment whose launcher nobody else uses."""
    folder = tmp_path_factory.mktemp("launched")
    shutil.copytree(HOME / "kdq", folder / "kdq", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "OMP_NUM_THREADS": "1"}
    environment.pop("KDQ_LAUNCHER", None)
    yield folder, environment
    for process in launchers(folder):
        os.kill(process, signal.SIGKILL)


def launchers(folder) -> list[int]:
    """The processes that serve the package in ``folder``."""
    found = subprocess.run(["pgrep", "-f", f"{folder}/kdq/workflow/launch.py --serve"], capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


def command(folder, script: str, **job) -> list[str]:
    (folder / "script.py").write_text(script)
    arguments = ["--threads", "1", "--log", "log", "--job", json.dumps(job)]
    return [sys.executable, "-I", "-S", f"{folder}/kdq/workflow/launch.py", f"{folder}/script.py", *arguments]


def run(workplace, script: str, launched=True, **job) -> subprocess.CompletedProcess:
    folder, environment = workplace
    environment = environment if launched else {**environment, "KDQ_LAUNCHER": "off"}
    words = command(folder, script, **job)
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


SAYS = """
import os, sys
print(snakemake.params.job["word"], os.getcwd(), os.environ["WORD"], "torch" in sys.modules, os.getppid())
print("aside", file=sys.stderr)
sys.exit(7)
"""


def test_a_job_is_what_it_is_by_itself(workplace, monkeypatch):
    folder, environment = workplace
    environment["WORD"] = "of the environment"
    (forked, alone) = (run(workplace, SAYS, launched, word="of the job") for launched in (True, False))
    assert forked.returncode == alone.returncode == 7
    assert forked.stderr == alone.stderr == "aside\n"
    before = f"of the job {folder} of the environment"
    assert forked.stdout.split()[:-1] == [*before.split(), "True"]
    assert alone.stdout.split()[:-1] == [*before.split(), "False"]
    assert int(forked.stdout.split()[-1]) in launchers(folder)


def test_one_launcher_serves_all_and_many_at_once(workplace):
    folder, environment = workplace
    words = command(folder, "import os; print(os.getppid())")
    jobs = [subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    parents = {job.communicate(timeout=120)[0].strip() for job in jobs}
    assert parents == {str(process) for process in launchers(folder)}
    assert len(parents) == 1


def test_a_job_runs_the_package_as_it_is_on_the_disk(workplace):
    folder, _ = workplace
    script = "from kdq import changing; print(changing.VALUE)"
    for value in (1, 2):
        (folder / "kdq/changing.py").write_text(f"VALUE = {value}  # {'edited' * value}\n")
        assert run(workplace, script).stdout == f"{value}\n"


def test_a_defect_shows_its_traceback(workplace):
    done = run(workplace, "raise ValueError('of the script')")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ValueError: of the script"


WAITS = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(3))
open("pid", "w").write(str(os.getpid()))
time.sleep(60)
"""


def waiting(workplace):
    """A job that waits, as (command, process of the job)."""
    folder, environment = workplace
    (folder / "pid").unlink(missing_ok=True)
    pipes = {"stderr": subprocess.PIPE, "text": True}
    job = subprocess.Popen(command(folder, WAITS), cwd=folder, env=environment, **pipes)
    until(lambda: (folder / "pid").is_file() and (folder / "pid").read_text())
    return job, int((folder / "pid").read_text())


def until(condition):
    latest = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < latest
        time.sleep(0.02)


def gone(process: int) -> bool:
    """Has it ended? One that nobody has waited for yet has too."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_signal_reaches_the_job(workplace):
    job, _ = waiting(workplace)
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == 3


def test_a_killed_command_takes_its_job_with_it(workplace):
    job, process = waiting(workplace)
    job.kill()
    until(lambda: gone(process))


def test_a_killed_snakemake_takes_its_jobs_with_it(workplace):
    """Its process is the parent of the command: Plan.command has the shell replaced."""
    folder, environment = workplace
    (folder / "pid").unlink(missing_ok=True)
    shell = f"import subprocess; subprocess.run({command(folder, WAITS)!r})"
    parent = subprocess.Popen([sys.executable, "-c", shell], cwd=folder, env=environment)
    until(lambda: (folder / "pid").is_file() and (folder / "pid").read_text())
    parent.kill()
    until(lambda: gone(int((folder / "pid").read_text())))


def test_a_killed_job_is_told_as_a_shell_tells_it_and_in_one_line(workplace):
    job, process = waiting(workplace)
    os.kill(process, signal.SIGKILL)
    assert job.wait(60) == 128 + signal.SIGKILL
    assert job.stderr.read() == "error: the job was killed, by SIGKILL (too little memory?); start snakemake again\n"


def test_a_killed_launcher_takes_its_jobs_with_it_and_the_next_job_starts_another(workplace):
    folder, _ = workplace
    job, process = waiting(workplace)
    for launcher in launchers(folder):
        os.kill(launcher, signal.SIGKILL)
    assert job.wait(60) == 1
    until(lambda: gone(process))
    assert run(workplace, "print('again')").stdout == "again\n"


def test_a_folder_that_others_may_write_to_is_not_used(workplace, monkeypatch):
    folder, environment = workplace
    monkeypatch.setitem(environment, "TMPDIR", str(folder))
    place = folder / f"kdq-{os.getuid()}"
    place.chmod(0o777)
    try:
        assert run(workplace, "import sys; print('torch' in sys.modules)").stdout == "False\n"
    finally:
        place.chmod(0o700)


# A setting of a process, how a shell makes it, and how a job sees it.
SEEN = {
    "umask": ("umask 077", "import os; mask = os.umask(0); print(oct(mask))"),
    "soft limit": ("ulimit -S -n 300", "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"),
    "hard limit": ("ulimit -n 300", "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))"),
    "CPU time": ("ulimit -t 1000", "import resource; print(resource.getrlimit(resource.RLIMIT_CPU))"),
    "nice level": ("renice -n 3 $$ > /dev/null", "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"),
    "processors": ("taskset -p -c 0 $$ > /dev/null", "import os; print(os.sched_getaffinity(0))"),
    "OOM score": ("echo 500 > /proc/self/oom_score_adj", "print(open('/proc/self/oom_score_adj').read())"),
    "ignored signal": ("trap '' USR2", "import signal; print(signal.getsignal(signal.SIGUSR2))"),
    "time zone": ("export TZ=Asia/Tokyo", "import time; print(time.localtime().tm_zone)"),
    "temporary folder": ("mkdir -p t; export TMPDIR=$PWD/t", "import tempfile; print(tempfile.gettempdir())"),
}


def shell(workplace, preparation: str, script: str, launched=True) -> subprocess.CompletedProcess:
    """Run a job from a shell that first runs ``preparation``."""
    folder, environment = workplace
    words = ["bash", "-c", f'{preparation}\nexec "$@"', "bash", *command(folder, script)]
    environment = {**environment, **({} if launched else {"KDQ_LAUNCHER": "off"})}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("setting", SEEN)
def test_a_job_has_the_settings_of_its_command(workplace, setting):
    preparation, script = SEEN[setting]
    launched, alone = (shell(workplace, preparation, script, launched) for launched in (True, False))
    assert (launched.stdout, launched.stderr) == (alone.stdout, "")
    plain = shell(workplace, ":", script)
    assert plain.stdout == shell(workplace, ":", script, launched=False).stdout != launched.stdout


def test_jobs_of_unlike_groups_share_no_launcher(workplace):
    if os.getuid():
        pytest.skip("only root may drop groups")
    script = "import os; print(sorted(os.getgroups()), os.getppid())"
    folder, environment = workplace

    def of(*groups) -> str:
        words = command(folder, script)
        return subprocess.check_output(words, env=environment, cwd=folder, extra_groups=groups, text=True)

    first, second = of(), of(7)
    assert first.startswith("[] ") and second.startswith("[7] ") and first.split()[-1] != second.split()[-1]


@pytest.mark.parametrize(("kind", "name"), [("mount", "mnt"), ("ipc", "ipc"), ("uts", "uts")])
def test_jobs_of_unlike_namespaces_share_no_launcher(workplace, kind, name):
    folder, environment = workplace
    script = f"import os; print(os.readlink('/proc/self/ns/{name}'), os.getppid())"
    words = command(folder, script)
    if subprocess.run(["unshare", f"--{kind}", "true"], capture_output=True).returncode:
        pytest.skip("no right to make a namespace")
    outside, inside = (
        subprocess.check_output([*before, *words], env=environment, cwd=folder, text=True).split()
        for before in ([], ["unshare", f"--{kind}"])
    )
    assert inside[0] != outside[0] == os.readlink(f"/proc/self/ns/{name}")
    assert inside[1] != outside[1]


def test_the_cgroup_is_a_part_of_the_socket_s_name(monkeypatch, tmp_path):
    """A SLURM allocation is one: a job of another may not use its memory and processors."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    read, before = Path.read_text, launch.socket_path()

    def read_text(self, **options):
        return "0::/slurm/job_7\n" if self.name == "cgroup" else read(self, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert before != launch.socket_path()


def test_a_hangup_is_not_passed_on_below_nohup(workplace):
    folder, environment = workplace
    (folder / "pid").unlink(missing_ok=True)
    words = command(folder, WAITS.replace("SIGTERM", "SIGUSR1"))
    job = subprocess.Popen(["bash", "-c", 'trap "" HUP; exec "$@"', "bash", *words], cwd=folder, env=environment)
    until(lambda: (folder / "pid").is_file() and (folder / "pid").read_text())
    job.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(60) == 3


LAUNCHED = "import sys; print('torch' in sys.modules)"


def test_a_long_path_of_the_socket_is_no_obstacle(workplace, monkeypatch):
    folder, environment = workplace
    long = folder / ("long" * 30)
    long.mkdir(exist_ok=True)
    monkeypatch.setitem(environment, "XDG_RUNTIME_DIR", str(long))
    assert run(workplace, LAUNCHED).stdout == "True\n"
    assert len(str(next(long.glob("kdq-*/*.socket")))) > 108


@pytest.mark.parametrize("runtime", ["missing", "script.py"])
def test_without_a_runtime_folder_the_temporary_one_is_used(workplace, monkeypatch, runtime):
    folder, environment = workplace
    monkeypatch.setitem(environment, "XDG_RUNTIME_DIR", str(folder / runtime))
    monkeypatch.setitem(environment, "TMPDIR", str(folder))
    assert run(workplace, LAUNCHED).stdout == "True\n"


class TestNotice:
    """What a run is told at its beginning."""

    @pytest.fixture(autouse=True)
    def places(self, monkeypatch, tmp_path):
        monkeypatch.delenv("KDQ_LAUNCHER", raising=False)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        monkeypatch.setattr(launch.tempfile, "gettempdir", lambda: str(tmp_path))

    def test_nothing_if_jobs_are_launched(self):
        assert launch.notice() == []

    def test_one_line_if_there_is_no_folder(self, tmp_path, monkeypatch):
        (tmp_path / f"kdq-{os.getuid()}").write_text("")
        (line,) = launch.notice()
        assert line.count("\n") == 1 and str(tmp_path) in line and "File exists" in line
        monkeypatch.setenv("KDQ_LAUNCHER", "off")
        assert launch.notice() == []

    def test_one_line_below_a_limit_on_cpu_time(self, monkeypatch):
        monkeypatch.setattr(launch.resource, "getrlimit", lambda limit: (10, 10))
        assert "ulimit -t" in launch.notice()[0]


def test_a_job_uses_the_device_that_it_holds(workplace, monkeypatch):
    """Two jobs at once on two devices, one after them on the first again."""
    folder, environment = workplace
    monkeypatch.setitem(environment, "CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    script = "import os, sys; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); sys.stdin.readline()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    for launcher in ("", "off"):
        words, settings = command(folder, script), {**environment, "KDQ_LAUNCHER": launcher}
        jobs = [subprocess.Popen([*words, "--log", f"log{n}"], cwd=folder, env=settings, **pipes) for n in range(4)]
        assert sorted(job.stdout.readline() for job in jobs) == ["GPU-a\n", "GPU-a\n", "GPU-b\n", "GPU-b\n"]
        for job in jobs:
            job.communicate("\n", timeout=60)
        assert subprocess.run(words, cwd=folder, env=settings, capture_output=True, text=True).stdout == "GPU-a\n"
