"""A data set is one loader file, and reruns nothing."""

import json

FILE = '''
"""Stripes: a data set that only this test knows. Images of class k have row k bright."""

import torch

from kdq.data.data_sets import Declared, Images
from kdq.data.prepared import Raw, Split


class DataSets(Declared):
    sizes = {"stripes": Images(300, 8, 2, 3)}
    keys = ("validation_fraction",)


def load(dataset, settings):
    generator = torch.Generator().manual_seed(0)

    def part(count):
        labels = torch.arange(count) % 3
        images = torch.randint(0, 100, (count, 2, 8, 8), generator=generator, dtype=torch.uint8)
        images[torch.arange(count), :, labels] = 250
        return images, labels

    return Raw(Split(*part(240)), Split(*part(60)), ["first", "second", "third"], {"kind": "stripes"})
'''


def test_one_file_makes_a_data_set(fresh):
    made = "results/digits/data/split=0.safetensors"
    assert fresh.run("--cores", "2", made).returncode == 0
    (fresh.folder / "kdq/data/sets/stripes.py").write_text(FILE)
    assert "Nothing to be done" in fresh.run("--cores", "2", "-n", made).stdout
    fresh.configure({"datasets": ["stripes"]})
    target = "results/stripes/seed=0/hard/rtn,bits=8/metrics.json"
    done = fresh.run("--cores", "2", target)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    metrics = json.loads((fresh.folder / target).read_text())
    assert metrics["dataset"] == "stripes" and metrics["test"]["images"] == 60
    assert metrics["test"]["top1"] > 0.2
    assert metrics["validation"]["images"] == 24
