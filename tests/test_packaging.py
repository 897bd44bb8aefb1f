"""Pins, environments, the wheel, and what jobs and the planner import."""

import ast
import importlib.util
import inspect
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import bracex
import pytest

HOME = Path(__file__).resolve().parents[1]
REQUIREMENTS = (HOME / "requirements.txt").read_text()
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
CORE = ["numpy", "pydantic", "safetensors", "torch"]


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


def name_of(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9._-]+", requirement).group()


def test_every_dependency_is_pinned():
    """Those of the library, of the workflow and of its tests; the other extras are installed beside these."""
    extras = PROJECT["optional-dependencies"]
    assert extras.keys() == {"export", "workflow", "dev"} | {"openvino"}
    declared = [*PROJECT["dependencies"], *(line for name in ("export", "workflow", "dev") for line in extras[name])]
    pinned = {pin.split("==")[0] for pin in pin_module().pins(REQUIREMENTS)}
    assert len(declared) > 30
    assert {name_of(requirement) for requirement in declared} - {"kdq"} <= pinned


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
    program = (
        "from setuptools import build_meta; build_meta.build_wheel('.')"  # as an installer does; pip may be missing
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("kdq-*.whl")
    return path


def test_the_wheel_holds_the_package_and_its_data(wheel):
    forms = ("*.py", "*.json", "*.pyi", "*.html", "*.css", "*.js", "py.typed")
    expected = {str(path.relative_to(HOME)) for form in forms for path in HOME.glob(f"kdq/**/{form}")}
    assert {"kdq/py.typed", "kdq/__init__.pyi", "kdq/models/costs.json"} <= expected
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if name.startswith("kdq/")} == expected


def test_the_wheel_is_importable_without_the_checkout(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    program = "import kdq.models, kdq.quantize.gpfq; print(kdq.models.load.__name__, kdq.__file__)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["load", str(tmp_path / "kdq/__init__.py")]


def test_the_wheel_needs_the_library_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        lines = archive.read(name).decode().splitlines()
    needed = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    assert sorted(name_of(line) for line in needed if "extra ==" not in line) == CORE
    assert f"Version: {PROJECT['version']}" in lines


def with_dependencies(names: list[str]) -> set[str]:
    """Return the distributions ``names`` of this environment and all that they need without extras."""
    packaging = pytest.importorskip("packaging.requirements")
    wanted, complete = list(names), set()
    while wanted:
        name = wanted.pop().lower().replace("_", "-")
        if name in complete:
            continue
        complete.add(name)
        for line in metadata.requires(name) or []:
            requirement = packaging.Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(requirement.name)
    return complete


@pytest.fixture(scope="module")
def core(wheel, tmp_path_factory) -> Path:
    """The Python of a new environment with the installed wheel, and links to what the library needs and no more."""
    folder = tmp_path_factory.mktemp("core")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    options = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    subprocess.run([python, "-m", "pip", "install", *options, wheel], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in with_dependencies(CORE):
        distribution = metadata.distribution(name)
        for part in {path.parts[0] for path in distribution.files if path.parts[0] not in ("..", "__pycache__")}:
            if not (site / part).exists():
                (site / part).symlink_to(distribution.locate_file(part))
    return python


PROGRAM = """
import sys, tempfile, pathlib
import kdq, torch
from torch import nn

class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, images):
        return self.b(self.norm(self.a(images)).relu().mean((2, 3)))

images, path = torch.rand(32, 3, 8, 8), pathlib.Path(tempfile.mkdtemp(), "model.safetensors")
for method in ("gpfq", "rtn", "spfq", "sparse", "gptq", "qronos", "adaround", "brecq", "mine"):
    quantized = kdq.quantize(Mine(), images, method=method, bits=3, activations=8)
    kdq.save(path, quantized)
    assert kdq.load(path, into=Mine())(images).equal(quantized(images)), method
assert kdq.quantize(Mine(), images, budget=3).bits_per_weight <= 3
assert quantized.layers["a"].codes.unique().tolist() == [-1], quantized.layers["a"].codes.unique()
try:
    kdq.export(quantized, "model.onnx")
except kdq.UserError as error:
    print(error)
assert kdq.distill.losses.dkd and kdq.models.load and not {"grimp", "numba", "scipy", "tqdm"} & sys.modules.keys()
print(kdq.__version__, kdq.__file__)
"""
QUANTIZER = """
import torch

from kdq.quantize.keys import Quantizing
from kdq.quantize.quantizer import Quantizer


class Parameters(Quantizing):
    pass


class Mine(Quantizer):
    def codes(self, weight, cross, gram, step, low, high):
        return torch.full((len(step), *weight.shape), -1, dtype=torch.int16)
"""


@pytest.mark.slow
def test_the_installed_wheel_needs_no_more_than_it_says(core, tmp_path):
    """A quantizer that lies among the methods of the installed package is one, too."""
    (methods,) = core.parents[1].glob("lib/python*/site-packages/kdq/quantize/methods")
    (methods / "mine.py").write_text(QUANTIZER)
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([core, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    missing, version = done.stdout.splitlines()
    assert missing == "export: onnx is not installed, expected it: pip install 'kdq[export]'"
    assert version == f"{PROJECT['version']} {methods.parents[1] / '__init__.py'}"


def test_importing_the_package_imports_nothing():
    assert not {"torch", "numpy", "pydantic"} & imported("kdq")
    program = "import sys, kdq; kdq.__version__; kdq.quantize; kdq.models.load; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=HOME, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_names_of_the_package_are_those_of_the_library():
    import kdq
    from kdq import library

    assert all(getattr(kdq, name) is getattr(library, name) for name in library.__all__ if name != "quantize")
    assert inspect.signature(kdq.quantize) == inspect.signature(library.quantize)
    assert set(library.__all__) <= set(dir(kdq)) and kdq.__version__ == PROJECT["version"]
    stub = ast.parse((HOME / "kdq/__init__.pyi").read_text())
    declared = {
        alias.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert {name for name, module in declared.items() if module == "kdq.library"} == set(library.__all__)
    assert all(hasattr(kdq, name) for name in declared)
    with pytest.raises(AttributeError, match="module 'kdq' has no attribute 'quantise'"):
        kdq.quantise  # noqa: B018


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
