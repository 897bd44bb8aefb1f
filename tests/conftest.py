"""Settings and fixtures for all tests: one thread, no deadlines, data and networks that train within a second."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
# no deadline: the machine may be busy; derandomized: the same examples everywhere
settings.register_profile("kdq", deadline=None, derandomize=True, database=None)
settings.load_profile("kdq")

HOME = Path(__file__).resolve().parent.parent
# Folders whose tests run Snakemake for minutes. Longest first: in parallel, nothing long is left for the end.
LONG_FOLDERS = ("faults", "workflow", "slurm")


def pytest_collection_modifyitems(items):
    """Mark the tests of each long folder with its name, and run these folders first."""
    folders = [HOME / "tests" / name for name in LONG_FOLDERS]
    for item in items:
        if item.path.parent in folders:
            item.add_marker(item.path.parent.name)
    items.sort(key=lambda item: folders.index(item.path.parent) if item.path.parent in folders else len(folders))


@pytest.fixture(scope="session")
def home() -> Path:
    """The folder that holds the package, the scripts and the workflow."""
    return HOME


@pytest.fixture(autouse=True)
def signals():
    """Restore the handler of SIGTERM, which a job run in the test process replaces."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def golden():
    """Losses and gradients of the published reference implementations, float64."""
    import numpy
    import torch

    with numpy.load(HOME / "tests/golden/losses.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="session")
def digits():
    """The embedded digits with the workflow's split."""
    from kdq.data.catalog import prepare

    return prepare("digits", {"test_fraction": 0.2}, 0.1, 0)


@pytest.fixture(scope="session")
def few(digits):
    """The digits with 160 training, 60 validation and 60 test images; the rest of the protocol is unchanged."""
    from kdq.data.prepared import Split

    def first(part, count):
        return Split(part.images[:count], part.labels[:count])

    return replace(
        digits, train=first(digits.train, 160), validation=first(digits.validation, 60), test=first(digits.test, 60)
    )


@pytest.fixture
def training_keys():
    """Return the resolved keys of a small network and a short training; keywords override them."""
    from kdq.train.settings import Network, Training

    def keys(**changes) -> dict:
        small = {"width": 0.0625, "epochs": 2, "batch_size": 32, "crop": 1, "flip": False, "precision": "float32"}
        return {**Network().model_dump(), **Training().model_dump(), **small, **changes}

    return keys


@pytest.fixture(scope="session")
def build():
    """Return a function that builds a small network for one-channel 8x8 images; ``seed`` fixes its weights."""
    import torch

    from kdq.models import registry

    def build(architecture="resnet18", seed=0, **changes):
        arguments = {"classes": 10, "channels": 1, "stem": "cifar", "width": 0.0625, "mean": [0.3], "std": [0.4]}
        torch.manual_seed(seed)
        return registry.build(architecture, **{**arguments, **changes})

    return build
