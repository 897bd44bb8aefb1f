"""A network is one file, and reruns nothing; its cost is counted by the command of `make docs`."""

import json
import subprocess
import sys

FILE = '''
"""Two plain stages: a network that only this test knows."""

from torch import nn

from kdq.models.family import Family
from kdq.models.network import Network, assemble, classifier_outline


class Architectures(Family):
    names = ("plain",)
    stages = ("layer1", "layer2")


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)

    def preactivation(self, x):
        return self.bn1(self.conv1(x))

    def forward(self, x):
        return self.preactivation(x).relu()


class Plain(Network):
    stages = Architectures.stages

    def __init__(self, *, classes, channels, stem, width, mean, std):
        super().__init__(mean, std)
        base = round(64 * width)
        self.conv1 = nn.Conv2d(channels, base, 3, 1 + (stem == "imagenet"), padding=1)
        self.layer1 = nn.Sequential(Block(base, base, 1), Block(base, base, 1))
        self.layer2 = nn.Sequential(Block(base, 2 * base, 2))
        self.fc = nn.Linear(2 * base, classes)

    def stem(self, x):
        return self.conv1(x).relu()


def outline(architecture, *, classes, width, head=None, **_):
    return classifier_outline("fc", 2 * round(64 * width), classes, head)


def build(architecture, **arguments):
    return assemble(Plain, architecture, **arguments)
'''


def test_one_file_makes_a_network(fresh):
    made = "results/digits/seed=0/teacher/model.safetensors"
    assert fresh.run("--cores", "2", made).returncode == 0
    (fresh.folder / "kdq/models/networks/plain.py").write_text(FILE)
    counted = [sys.executable, "-m", "kdq.models.cost"]
    subprocess.run(counted, cwd=fresh.folder, env=fresh.environment, check=True)
    assert "Nothing to be done" in fresh.run("--cores", "2", "-n", made).stdout
    recipe = "teacher/at,architecture=plain,epochs=1/gpfq,bits=4"
    done = fresh.run("--cores", "2", f"results/digits/seed=0/{recipe}/metrics.json")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    metrics = json.loads((fresh.folder / f"results/digits/seed=0/{recipe}/metrics.json").read_text())
    assert [layer["name"] for layer in metrics["layers"]] == [
        "conv1",
        *("layer1.0.conv1", "layer1.1.conv1", "layer2.0.conv1", "fc"),
    ]
    assert 0 < metrics["test"]["top1"] <= 1
