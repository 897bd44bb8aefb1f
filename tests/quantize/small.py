"""A network with a shortcut and a branch, small enough to be quantized many times, and images for it."""

import torch
from torch import nn

from kdq.data.prepared import Split


class Small(nn.Module):
    """Layers are declared in another order than they are executed in; one is wide, so that bits are worth moving."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(12, 5)
        self.stem = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(6)
        self.wide = nn.Conv2d(6, 12, 3, padding=1, stride=2)
        self.grouped = nn.Conv2d(12, 12, 3, padding=1, groups=3)
        self.shortcut = nn.Conv2d(6, 12, 1, stride=2)

    def forward(self, x):
        x = self.bn(self.stem(x)).relu()
        y = self.wide(x).relu()
        return self.fc((self.grouped(y) + self.shortcut(x)).relu().mean((2, 3)))


ORDER = ["stem", "wide", "grouped", "shortcut", "fc"]


def network(seed=0) -> Small:
    torch.manual_seed(seed)
    model = Small().eval()
    model.bn.running_mean.uniform_(-0.1, 0.1)
    model.bn.running_var.uniform_(0.5, 1.5)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data *= 2  # predictions that are sure enough to be lost
    return model


def part(count=24, seed=0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Split(images, torch.randint(0, 5, (count,), generator=generator))


def silent(line):
    pass
