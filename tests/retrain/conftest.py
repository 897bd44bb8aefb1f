"""A small trained network, the same quantized, and a way to retrain it as a job does."""

import copy

import pytest
import torch

from kdq.models import file as model_file
from kdq.models.model import Model
from kdq.quantize.methods import rtn
from kdq.quantize.stage import quantize_stage
from kdq.recipe.stages import find_stages
from kdq.retrain.stage import load, retrain
from kdq.train.stage import save, train_root

HEADER = {"recipe": "hard", "dataset": "digits", "seed": 0, "keys": {}, "provenance": {}}
CPU = torch.device("cpu")


def small(**changes) -> dict:
    return {"batch_size": 32, "crop": 0, "flip": False, "precision": "float32", **changes}


@pytest.fixture(scope="session")
def all_keys(home):
    """All keys of a stage, its defaults changed as a recipe changes them."""
    types = find_stages(home / "kdq")

    def all_keys(name, **changes) -> dict:
        return types[name].keys(**{**small(), **changes}).model_dump()

    return all_keys


@pytest.fixture(scope="session")
def quantized(few):
    """Round the weights of a float network; gives the model, the network itself stays as it is."""

    def quantized(network, **keys) -> Model:
        network = copy.deepcopy(network)
        parameters = rtn.Parameters(**{"scale": 0.8, "images": 16, **keys})
        codes = quantize_stage(network, few, rtn.RTN(parameters), seed=0, device=CPU, log=lambda line: None)
        return Model(network, network.architecture, codes)

    return quantized


@pytest.fixture(scope="session")
def files(few, all_keys, quantized, tmp_path_factory):
    """Model files ``float`` and ``rtn`` at 2 bits, of a network that has learned what it can from so few images."""
    folder = tmp_path_factory.mktemp("models")
    places = {"checkpoint": folder / "checkpoint.pt", "identity": "hard", "log": lambda line: None}
    keys = all_keys("hard", width=0.125, epochs=30)
    trained = train_root(few, keys, seed=0, threads=1, **places)
    save(folder / "float.safetensors", folder / "history.csv", trained, **HEADER)
    parent = quantized(load(folder / "float.safetensors", CPU).network, bits=2)
    model_file.save(folder / "rtn.safetensors", parent.network, parent.architecture, parent.codes, **HEADER)
    return {name: folder / f"{name}.safetensors" for name in ("float", "rtn")}


@pytest.fixture
def run(few, files, all_keys, tmp_path):
    """Retrain by a stage's name, with changed keys; ``checkpoint`` is a file below ``tmp_path``."""

    def run(name, checkpoint="checkpoint", seed=0, log=print, **changes):
        places = {"checkpoint": tmp_path / f"{checkpoint}.pt", "identity": name, "log": log}
        keys, module = all_keys(name, **changes), f"kdq.retrain.methods.{name}"
        ancestor = files["float"] if keys.get("start") == "float" else ""
        models = files["rtn"], files["float"]
        return retrain(few, *models, module, keys, seed=seed, threads=1, ancestor=ancestor, **places)

    return run


@pytest.fixture(scope="session")
def accuracy():
    """The share of a part's images that a network classifies right."""

    def accuracy(network, split) -> float:
        with torch.no_grad():
            return (network(split.images.float() / 255).argmax(1) == split.labels).double().mean().item()

    return accuracy
