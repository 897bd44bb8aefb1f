"""Channel pruning: whole channels go, and with them all that reads or makes them, so that the network gets smaller.

Which channels belong together is what the dependency graph tells: Fang et al., DepGraph: towards any structural
pruning, CVPR 2023, arXiv:2301.12900, of whose library torch-pruning the graph and the importance are: the norm of all
weights of a group of channels. The classes stay.
"""

import torch

from kdq.data.prepared import Prepared
from kdq.distill.teacher import Teacher
from kdq.errors import UserError, reason
from kdq.models import channels, masks
from kdq.models.model import Model
from kdq.models.network import Network
from kdq.prune.keys import Pruning
from kdq.quantize.execution.images import floats
from kdq.quantize.execution.layer import quantizable_layers
from kdq.quantize.execution.passes import survey
from kdq.quantize.execution.selection import named
from kdq.quantize.gram.calibration_images import calibration_images
from kdq.recipe.vocabulary import Annotated, ClassVar, Field, PositiveInt, ProperFraction
from kdq.retrain.lsq import LearnedSteps
from kdq.retrain.supervision import SupervisedTraining

ROUNDING = 1e-9  # less than a ratio, or 20 channels x (1 - 0.8) are 3.999... and a further one goes


class Parameters(Pruning):
    quantized_parent: ClassVar = False

    ratio: Annotated[ProperFraction, Field(description="share of the channels that is pruned, in every layer")] = 0.5
    multiple: Annotated[
        PositiveInt,
        Field(
            description="where channels are pruned, as many more go as leave a multiple of this, for runtimes' kernels"
        ),
    ] = 1
    reshapes: ClassVar = True

    @classmethod
    def unread(cls, values: dict) -> dict[str, str]:
        return {"start": "the parent is float"}


class Channels(LearnedSteps):
    """Prune the channels of the smallest norm before the first epoch."""

    def task(self, parent: Model, teacher: Model, prepared: Prepared, *, seed: int, device: torch.device):
        network, before = parent.network, channels.shapes_of(parent.network)
        image = floats(calibration_images(prepared, 1, seed).images.to(device))
        pruned = list(masks.masks_of(network))
        keep = named(self.keys.keep, list(quantizable_layers(network)), executed(network, image))
        prune(network, image, self.keys.ratio, self.keys.multiple, keep)
        if self.keys.ratio and channels.shapes_of(network) == before:
            raise UserError(f"channels: keep: found {self.keys.keep!r}, which leaves no channel to prune")
        # of a layer that had a mask the weights that are not 0 are those that were left
        masks.attach(network, {name: network.get_submodule(name).weight.detach() != 0 for name in pruned})
        self.architecture = channels.described(parent.architecture, network, before)
        if isinstance(getattr(network, "architecture", None), dict):
            network.architecture = self.architecture
        left = sum(parameter.numel() for parameter in network.parameters())
        self.log(f"{len(self.architecture.get(channels.KEY, {}))} modules pruned, {left:,} parameters left")
        network.to(memory_format=torch.channels_last)
        return SupervisedTraining(self.attached(parent), Teacher(teacher.network), self.keys)

    def model(self, task: SupervisedTraining, parent: Model) -> Model:
        trained = super().model(task, parent)
        return Model(trained.network, self.architecture, trained.codes)


@torch.no_grad()
def executed(network, image) -> list[str]:
    """Return the layers by name in the order of their first calls, for one image."""
    return list(dict.fromkeys(survey(network, quantizable_layers(network), image)[0]))


def prune(network, image: torch.Tensor, ratio: float, multiple: int = 1, keep=()) -> None:
    """Prune a share ``ratio`` of the channels of every layer, in place; all that layers ``keep`` give are left.

    ``network`` is in eval mode; ``image`` (1, C, H, W), float, passes through it. Raise UserError if a layer would have
    none left, or if the dependencies of the network's channels can't be told.
    """
    import torch_pruning  # slow

    layers = quantizable_layers(network)
    last = network.classifier_name if isinstance(network, Network) else executed(network, image)[-1]
    ratio = max(0.0, ratio - ROUNDING)
    for name, layer in layers.items():
        groups = getattr(layer, "groups", 1)
        count = len(layer.weight) // groups  # of a group the same channels go as of all others
        if name in {*keep, last} or (
            groups > 1 and count == 1
        ):  # depthwise: its channels are those of the layer before
            continue
        if int(count * (1 - ratio)) < multiple:
            of_group = f" in each of its {groups} groups" if groups > 1 else ""
            found = f"ratio: found {ratio:g} beside multiple={multiple}"
            raise UserError(f"channels: {found}, which leave none of the {count} channels of {name}{of_group}")
    try:
        pruner = torch_pruning.pruner.BasePruner(
            network,
            image,
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=[layers[name] for name in {*keep, last}],
            round_to=multiple,
        )
        pruner.step()
        network(image)  # of some graphs the library makes networks that can't run
    except Exception as error:  # noqa: BLE001, the library's errors are of many kinds
        why = f"the channels of {type(network).__name__} can't be pruned by torch-pruning ({reason(error, 200)})"
        raise UserError(f"channels: {why}") from None
    network.zero_grad(set_to_none=True)
