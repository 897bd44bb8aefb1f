"""A small trained network and the same quantized, and a way to continue with both as a job does."""

import pytest

from kdq.recipe.stages import find_stages
from kdq.retrain.stage import retrain
from kdq.train.stage import save
from tests.retrain.conftest import HEADER, accuracy, all_keys, files, quantized

__all__ = ["accuracy", "all_keys", "files", "quantized"]


@pytest.fixture
def go_on(few, files, all_keys, home, tmp_path):
    """Continue with ``parent``, the name of a model, by the stage ``name``; return the trained model.

    With ``into`` it becomes one of the files under that name.
    """

    def go_on(parent, name, into="", log=print, checkpoint="checkpoint", seed=0, **changes):
        keys, module = all_keys(name, **changes), find_stages(home / "kdq")[name].module
        ancestor = files["float"] if keys.get("start") == "float" and parent != "float" else ""
        places = {"checkpoint": tmp_path / f"{checkpoint}.pt", "identity": name, "log": log}
        settings = {"seed": seed, "threads": 1, "ancestor": ancestor, **places}
        trained = retrain(few, files[parent], files["float"], module, keys, **settings)
        if into:
            files[into] = tmp_path / f"{into}.safetensors"
            save(files[into], tmp_path / f"{into}.csv", trained, **HEADER)
        return trained

    before = dict(files)
    yield go_on
    files.clear()
    files.update(before)
