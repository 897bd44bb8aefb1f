"""A model of the transformers library: as published on a hub, and as a model file of a study."""

import json
import shutil
from pathlib import Path
from random import Random

import torch

from kdq import models
from kdq.data.prepared import Prepared, Split
from kdq.models import file as model_file
from kdq.models.codes import Codes
from kdq.roots.sources import huggingface as classifier
from tests.fuzz.mutate import mutated_bytes, mutated_value

CLASSES = ("airplane", "automobile", "bird", "cat")
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 16}
KEYS = {"source": "transformers", "file": "", "sha256": "", "labels": "names"}


class Published:
    """A tiny vision transformer in ``folder``, and a model file made from it."""

    def __init__(self, folder: Path):
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        names = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: index for index, name in enumerate(CLASSES)}}
        config = transformers.ViTConfig(patch_size=8, **SIZES, **names)
        transformers.ViTForImageClassification(config).save_pretrained(folder)
        transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
        images = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)
        part = Split(images, torch.arange(8) % 4)
        self.prepared = Prepared(part, part, part, list(CLASSES), [0.5] * 3, [0.25] * 3, "cifar10", {}, 0)
        self.folder = folder
        network, architecture, _ = self.load(folder)
        self.model = folder.parent / "pretrained.safetensors"
        header = {"dataset": "cifar10", "seed": 0, "recipe": "teacher", "keys": {}, "provenance": {}}
        model_file.save(self.model, network, architecture, Codes(), **header)

    def load(self, folder: Path, **changes):
        return classifier.load(self.prepared, {**KEYS, "folder": str(folder), **changes}, lambda line: None)

    def change(self, random: Random) -> bytes:
        """Return the name of one of the files and mutated content for it."""
        name = random.choice(("config.json", "config.json", "preprocessor_config.json", "model.safetensors"))
        content = (self.folder / name).read_bytes()
        if name.endswith(".json") and random.random() < 0.8:
            changed = json.dumps(mutated_value(json.loads(content), random)).encode()
        else:
            changed = mutated_bytes(content, random)
        return name.encode() + b"\0" + changed

    def read(self, path: Path) -> None:
        """Load the model with that file in place of its own."""
        name, _, content = path.read_bytes().partition(b"\0")
        folder = path.parent / "changed"
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        (folder / name.decode()).write_bytes(content)
        network = self.load(folder)[0]
        network(torch.rand(1, 3, 16, 16))

    def read_model(self, path: Path) -> None:
        models.load(path)
