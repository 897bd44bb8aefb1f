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


class Parameters(Pruning):
    quantized_parent: ClassVar = False

    ratio: Annotated[ProperFraction, Field(description="share of the channels that is pruned, in every layer")] = 0.5
    multiple: Annotated[
        PositiveInt, Field(description="the channels that are left are a multiple of this, for the kernels of runtimes")
    ] = 1

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
    for name in layers.keys() - {*keep, last}:
        count = len(layers[name].weight)
        if int(count * (1 - ratio)) < multiple:
            found = f"ratio: found {ratio:g} beside multiple={multiple}"
            raise UserError(f"channels: {found}, which leave none of the {count} channels of {name}")
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
    except Exception as error:  # noqa: BLE001, the library's errors are of many kinds
        why = f"the channels of {type(network).__name__} can't be pruned by torch-pruning ({reason(error, 200)})"
        raise UserError(f"channels: {why}") from None
    network.zero_grad(set_to_none=True)
