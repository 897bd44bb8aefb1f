"""What a job asks of a cluster: the costs of networks are those that can be counted, and needs grow with the work."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from kdq.data.batches import view_count
from kdq.workflow import resources
from kdq.workflow.resources import A_PIXEL, IMAGES, Network

CIFAR, DIGITS = IMAGES["cifar10"], IMAGES["digits"]
KEYS = {"architecture": "resnet18", "stem": "cifar", "width": 0.25, "epochs": 20, "batch_size": 128}


def counted(network: nn.Module, side: int) -> Network:
    """Multiply-adds, outputs of all layers and parameters for one image, in the units of ``Network``."""
    found = {"gmacs": 0.0, "activations": 0.0}

    def hook(module, _, output):
        found["activations"] += output.numel() / 1e6
        if isinstance(module, nn.Conv2d):
            found["gmacs"] += output.numel() * module.weight[0].numel() / 1e9

    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(hook)
    with torch.no_grad():
        network.eval()(torch.rand(1, 1, side, side))
    return Network(**found, parameters=sum(value.numel() for value in network.parameters()) / 1e6)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("architecture", A_PIXEL)
@pytest.mark.parametrize("width", [0.125, 0.25])
def test_the_cost_of_a_network_is_what_can_be_counted(build, architecture, stem, width):
    said = resources.network({"architecture": architecture, "stem": stem, "width": width}, replace(CIFAR, side=32))
    found = counted(build(architecture, stem=stem, width=width), 32)
    for key in ("gmacs", "activations", "parameters"):
        share = getattr(said, key) / getattr(found, key)
        assert 0.97 < share < (1.06 if stem == "cifar" else 2), key


def training(keys=KEYS, images=CIFAR, teacher=None, gpu=False, threads=1):
    return resources.training(images, keys, resources.network(keys, images), teacher, gpu, threads)


def test_a_training_needs_time_by_the_epoch_and_memory_by_the_batch():
    short, long = training(), training({**KEYS, "epochs": 40})
    assert long.minutes - resources.START_MINUTES == pytest.approx(2 * (short.minutes - resources.START_MINUTES), abs=1)
    assert long.memory_mb == short.memory_mb < training({**KEYS, "batch_size": 256}).memory_mb


def test_a_gpu_or_more_threads_need_less_time_and_a_teacher_more():
    alone = training().minutes
    assert training(gpu=True).minutes < training(threads=4).minutes < alone
    assert training(gpu=True).memory_mb == training().memory_mb + resources.CUDA_MB
    teacher = resources.network({**KEYS, "architecture": "resnet50", "width": 1}, CIFAR)
    with_teacher = training(teacher=teacher)
    assert with_teacher.minutes > alone and with_teacher.memory_mb > training().memory_mb


def test_wider_networks_and_larger_images_need_more_of_everything():
    for small, large in ((0.125, 0.25), (0.25, 1)):
        networks = [resources.network({**KEYS, "width": width}, CIFAR) for width in (small, large)]
        for needs in (
            [resources.evaluating(CIFAR, network, 1) for network in networks],
            [resources.quantizing(CIFAR, 1024, network, 1) for network in networks],
            [resources.measuring(CIFAR, 1024, network, 1) for network in networks],
            [training({**KEYS, "width": width}) for width in (small, large)],
        ):
            assert needs[0].memory_mb < needs[1].memory_mb and needs[0].minutes <= needs[1].minutes
    assert training(images=DIGITS).minutes < training().minutes
    assert resources.preparing(DIGITS).memory_mb < resources.preparing(CIFAR).memory_mb


@pytest.mark.parametrize(("crop", "flip"), [(0, False), (1, True), (4, True)])
def test_a_cache_needs_memory_and_time_by_the_view(crop, flip):
    """At twice two bytes a logit, one copy of them on its way to the disk."""
    teacher = resources.network({**KEYS, "width": 1}, CIFAR)
    one, all_views = (resources.caching(CIFAR, *view, teacher, False, 1) for view in ((0, False), (crop, flip)))
    more = view_count(crop, flip) - 1
    assert all_views.memory_mb - one.memory_mb == pytest.approx(more * 4 * CIFAR.count * CIFAR.classes / 1e6, abs=2)
    assert all_views.minutes >= one.minutes


def test_all_layers_alone_at_all_bits_take_longer_than_a_network_at_one():
    network = resources.network({**KEYS, "width": 1}, CIFAR)
    one, every = (job(CIFAR, 256, network, 1) for job in (resources.quantizing, resources.measuring))
    assert every.memory_mb == one.memory_mb and every.minutes > 2 * one.minutes
