"""Pins, environments, the wheel, and what jobs and the planner import."""

import importlib.util
import pkgutil
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import bracex
import pytest

HOME = Path(__file__).resolve().parents[1]
REQUIREMENTS = (HOME / "requirements.txt").read_text()


def pin_module():
    spec = importlib.util.spec_from_file_location("pin", HOME / "envs" / "pin.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_pin_has_a_hash_and_names_no_host():
    blocks = re.split(r"\n(?=\S)", REQUIREMENTS)
    assert len(blocks) > 50
    assert all("==" in block.splitlines()[0] and "--hash=sha256:" in block for block in blocks if block[0] != "#")
    assert "://" not in REQUIREMENTS


def test_every_dependency_is_pinned():
    declared = re.findall(r'^    "([A-Za-z0-9._-]+)>=', (HOME / "pyproject.toml").read_text(), re.MULTILINE)
    pinned = {pin.split("==")[0] for pin in pin_module().pins(REQUIREMENTS)}
    assert len(declared) > 15
    assert set(declared) <= pinned


def test_the_conda_environment_has_the_same_pins():
    assert (HOME / "envs/kdq.yaml").read_text() == pin_module().environment(REQUIREMENTS)


def imported(modules: str) -> set[str]:
    """Return the top-level names in sys.modules after importing ``modules`` in a new process."""
    program = f"import sys; import {modules}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], cwd=HOME, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "modules",
    [
        "kdq.train.stage, kdq.roots.methods.teacher, kdq.roots.sources.hub",
        "kdq.distill.stage, kdq.distill.methods.kd",
        "kdq.quantize.stage, kdq.quantize.methods.gpfq",
        "kdq.evaluate.stage",
    ],
)
def test_a_job_imports_nothing_slow_but_torch(modules):
    found = imported(modules)
    assert "torch" in found
    assert not {"torchvision", "transformers", "sklearn", "pandas", "matplotlib"} & found


def test_the_planner_imports_no_torch():
    planning = "kdq.workflow.targets, kdq.report.contents, kdq.data.folder_digest"
    assert not {"torch", "pandas", "numpy"} & imported(f"kdq.study.config, kdq.provenance.fingerprint, {planning}")


@pytest.mark.parametrize("recipe", ["Dockerfile", "kdq.def"])
def test_the_containers_install_the_same_pins_on_the_same_python(recipe):
    text = (HOME / "envs" / recipe).read_text()
    assert "--require-hashes --requirement /requirements.txt" in text
    version = re.search(r"python=(\S+)", (HOME / "envs/kdq.yaml").read_text()).group(1)
    assert re.search(r"^FROM:? python:(\S+)-slim$", text, re.MULTILINE | re.IGNORECASE).group(1) == version


def test_wrong_words_for_a_compression_are_refused_without_torch():
    assert not {"torch", "pandas", "scipy", "snakemake"} & imported("kdq.workflow.compress")


def test_verifying_imports_no_torch():
    assert not {"torch", "pandas", "snakemake"} & imported("kdq.provenance.verify.__main__, kdq.workflow.adopt")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel of the package, built without a network."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(HOME / name, folder)
    shutil.copytree(HOME / "kdq", folder / "kdq", ignore=shutil.ignore_patterns("__pycache__"))
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder)
    done = subprocess.run([sys.executable, "-m", "pip", "wheel", *options, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("kdq-*.whl")
    return path


def test_the_wheel_holds_the_package_and_its_data(wheel):
    expected = {str(path.relative_to(HOME)) for form in ("py", "json") for path in HOME.glob(f"kdq/**/*.{form}")}
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if name.startswith("kdq/")} == expected


def test_the_wheel_is_importable_without_the_checkout(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    program = "import kdq.models, kdq.quantize.gpfq; print(kdq.models.load.__name__, kdq.__file__)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["load", str(tmp_path / "kdq/__init__.py")]


def moves() -> list[tuple[str, str]]:
    """Return the old and the new names of the changelog's table, spelled out."""
    pairs = []
    for old, new in re.findall(r"^\| (`kdq.*`) \| `(kdq.*)` \|$", (HOME / "CHANGELOG.md").read_text(), re.MULTILINE):
        olds = [name for pattern in re.findall("`(.*?)`", old) for name in bracex.expand(pattern)]
        news = bracex.expand(new)
        news = news if len(news) == len(olds) else news * len(olds)
        pairs += [(a, b.replace("*", a.rpartition(".")[2])) for a, b in zip(olds, news, strict=True)]
    return pairs


def test_every_new_name_of_the_changelog_exists():
    pairs = moves()
    assert len(pairs) > 100
    for _, new in pairs:
        pkgutil.resolve_name(new)


def test_the_public_import_paths_of_the_first_version_work():
    from kdq.distill import losses
    from kdq.distill.methods import dkd, kd
    from kdq.models import load
    from kdq.quantize.gpfq import gpfq
    from kdq.quantize.methods import gpfq as method

    public = "attention_transfer cka dkd dml hcl hint kd kd_soft_labels nce pkt rkd sp standardize tangent_kernel"
    assert all(callable(getattr(losses, name)) for name in public.split())
    assert (losses.kd, losses.dkd, gpfq) == (kd.kd, dkd.dkd, method.gpfq) and callable(load)


def test_private_parts_of_snakemake_are_replaced_below_the_next_major_version_only():
    project = (HOME / "pyproject.toml").read_text()
    bounds = re.findall(r'"(snakemake[a-z-]*)>=([0-9.]+),<([0-9]+)"', project)
    assert [name for name, *_ in bounds] == ["snakemake", "snakemake-executor-plugin-slurm"]
    for name, low, high in bounds:
        (pinned,) = (pin.split("==")[1] for pin in pin_module().pins(REQUIREMENTS) if pin.split("==")[0] == name)
        assert tuple(map(int, low.split("."))) <= tuple(map(int, pinned.split("."))) < (int(high),)
