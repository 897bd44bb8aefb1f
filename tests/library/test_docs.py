"""The code in docs/library.md runs as it stands, from top to bottom."""

import re
from pathlib import Path

import torch
from torch import nn

import kdq
from kdq.models import file as model_file
from kdq.models.codes import Codes
from kdq.models.registry import build

HOME = Path(__file__).resolve().parents[2]
DIGITS = Path("results/digits/seed=0")
ARCHITECTURE = {
    "architecture": "resnet18",
    "classes": 10,
    "width": 0.0625,
    "stem": "cifar",
    "channels": 1,
    "mean": [0.5],
    "std": [0.5],
}


class MyNetwork(nn.Module):
    """The fewest layers that have the names on the page."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.layer4 = nn.Sequential(nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1))
        self.fc = nn.Linear(6, 5)

    def forward(self, images):
        return self.fc(self.layer4(self.bn1(self.conv1(images)).relu()).relu().mean((2, 3)))


def test_every_block_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    own = build(**ARCHITECTURE).eval()
    distilled, quantized = DIGITS / "teacher/kd", DIGITS / "hard/gpfq,bits=4"
    for folder in (distilled, quantized):
        folder.mkdir(parents=True)
    model_file.save(distilled / "model.safetensors", own, ARCHITECTURE, Codes(), keys={})
    kdq.save(quantized / "model.safetensors", kdq.quantize(own, torch.rand(16, 1, 8, 8), bits=4))
    names = {
        "network": MyNetwork().eval(),
        "MyNetwork": MyNetwork,
        "images": torch.rand(32, 3, 8, 8),
        **{f"{role}_logits": torch.randn(4, 5) for role in ("student", "teacher")},
        "labels": torch.arange(4),
    }
    blocks = re.findall(r"```python\n(.*?)```", (HOME / "docs/library.md").read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        exec(block, names)
    assert len(blocks) >= 7
    assert names["loss"].isfinite()
    assert names["logits"].shape == (32, 5)
    assert isinstance(names["network"], nn.Module)
