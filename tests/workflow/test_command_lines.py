"""What a command line or a profile asks for is what is planned; what it can't mean is one line."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

QUANTIZED = 30  # cells of the default study that are quantized, 3 with quantized activations left out


def planned(workflow, *arguments) -> dict[str, int]:
    """Return the number of jobs by rule that ``snakemake -n`` lists."""
    done = workflow.run("-n", *arguments)
    assert done.returncode == 0, done.stderr
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)}


def refused(done: subprocess.CompletedProcess) -> str:
    """Return the one line with which a run ended."""
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("until", [("--until=quantize",), ("--until", "quantize"), ("-U", "quantize")])
def test_until_stops_at_a_rule(fresh, until):
    jobs = planned(fresh, *until)
    assert jobs["quantize"] == QUANTIZED and jobs["total"] == QUANTIZED + 6 and "evaluate" not in jobs


@pytest.mark.parametrize("omit", [("--omit-from=quantize",), ("--omit-from", "quantize")])
def test_omit_from_leaves_a_rule_out(fresh, omit):
    jobs = planned(fresh, *omit)
    assert "quantize" not in jobs and "table" not in jobs and jobs["distill"] == 11


def test_until_in_a_profile_is_until(fresh):
    profile = fresh.folder / "profiles/default/profile.yaml"
    settings = yaml.safe_load(profile.read_text())
    profile.write_text(yaml.safe_dump({**settings, "until": ["quantize"]}))
    assert planned(fresh)["total"] == QUANTIZED + 6
    profile.write_text(yaml.safe_dump({**settings, "until": ["quantise"]}))
    assert refused(fresh.run("-n")).endswith("neither a rule nor a file of the workflow; did you mean 'quantize'?")


@pytest.mark.parametrize(
    "words",
    [
        ("--omit-from=quantise",),
        ("--omit-from", "quantise"),
        ("--forcerun=quantise",),
        ("--until=quantise", "--target-files-omit-workdir-adjustment"),
        ("--prioritize", "quantise"),
    ],
)
def test_a_mistyped_rule_is_one_line(fresh, words):
    assert refused(fresh.run("-n", *words)).startswith("error: quantise: is neither a rule nor a file")


@pytest.mark.parametrize("option", ["--until=", "--omit-from=", "--forcerun="])
def test_a_mistyped_recipe_is_one_line(fresh, option):
    done = fresh.run("-n", f"{option}./results/digits/seed=0/hrd/model.safetensors")
    assert refused(done).endswith("did you mean 'hard'?")


def test_a_rule_without_jobs_is_remarked_on(fresh):
    assert "--until retrain: this study has no such job\n" in fresh.run("-n", "--until", "retrain").stderr


def test_a_result_among_the_config_files_is_told_to_come_first(fresh):
    target = "results/digits/seed=0/hard/metrics.json"
    (fresh.folder / target).parent.mkdir(parents=True)
    (fresh.folder / target).write_text('{"dataset": "digits"}')
    line = refused(fresh.run(target, "-n"))
    assert line.endswith(f"expected targets first: snakemake {target} --configfile overlay.yaml")


@pytest.mark.parametrize("linked", [False, True], ids=["relative", "relative below a link"])
def test_a_relative_snakefile_plans_from_any_folder(fresh, tmp_path_factory, linked):
    place = tmp_path_factory.mktemp("elsewhere")
    shutil.copy(fresh.folder / "config.yaml", place)
    home = place / "link" if linked else fresh.folder
    if linked:
        home.symlink_to(fresh.folder)
    snakefile = os.path.relpath(home / "Snakefile", place)
    words = [sys.executable, "-m", "snakemake", "-s", snakefile, "-n", "--until", "quantize"]
    done = subprocess.run(words, cwd=place, env=fresh.environment, capture_output=True, text=True)
    assert done.returncode == 0 and f"quantize           {QUANTIZED + 3}\n" in done.stdout, done.stderr


def test_the_profile_for_slurm_without_slurm_is_one_line_and_plans_all_the_same(fresh, tmp_path):
    commands = tmp_path / "commands"
    commands.mkdir()
    for name in ("sbatch", "squeue", "scancel", "scontrol"):
        (commands / name).write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
        (commands / name).chmod(0o755)
    fresh.environment["PATH"] = f"{commands}:{os.environ['PATH']}"
    target = "results/digits/data/split=0.safetensors"
    done = fresh.run("--workflow-profile", "profiles/slurm", "--jobs", "1", target)
    assert "found 'Unable to contact slurm controller'" in refused(done)
    assert fresh.run("--workflow-profile", "profiles/slurm", "-n").returncode == 0
