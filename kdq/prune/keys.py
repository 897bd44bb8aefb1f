"""Keys that stages of pruning share: how much is pruned, when, and how training continues."""

from kdq.quantize.keys import Layers
from kdq.recipe.vocabulary import Annotated, Base, Field, Fraction, NonNegative, ProperFraction
from kdq.retrain.keys import Continued, Supervised, Taught
from kdq.train.settings import Training

UNTRAINED = "epochs=0 trains nothing"  # why a key is not read


class Pruning(Supervised):
    """Keys of every method: which layers it may prune, and what trains those that are left."""

    keep: Annotated[
        Layers,
        Field(
            description="layers that are not pruned, or whose output channels are all left, joined by `+`: `first` and "
            "`last` that run, a layer by its name, or all in a module by that of the module"
        ),
    ] = ""
    distillation_weight: Annotated[
        NonNegative, Field(description="weight of the match with the teacher's logits; 0 is training on labels alone")
    ] = 0.0

    @classmethod
    def unread(cls, values: dict) -> dict[str, str]:
        if values.get("epochs") != 0:
            return {}
        return dict.fromkeys(("label_weight", "distillation_weight", "teacher", "temperature"), UNTRAINED)


class Sparsity(Base):
    """Keys of the methods that prune as many weights as they are told to."""

    sparsity: Annotated[
        ProperFraction, Field(description="share of the weights that is pruned, of layers that `keep` does not name")
    ] = 0.5
    gradual: Annotated[
        Fraction,
        Field(
            description="share of the epochs, the first, before each of which more is pruned: before number r of R in "
            "all 1 - (1 - r/R)^3 of the sparsity; 0: all before the first epoch",
        ),
    ] = 0.0

    @classmethod
    def unread(cls, values: dict) -> dict[str, str]:
        return {"gradual": UNTRAINED} if values.get("epochs") == 0 else {}


class Further(Continued):
    """Training after pruning; there may be none."""

    epochs: Annotated[int, Field(ge=0, le=100_000, description="passes over the training part; 0: prune alone")] = 10

    @classmethod
    def unread(cls, values: dict) -> dict[str, str]:
        if values.get("epochs") != 0:
            return {}
        # statistics of BatchNorm that a quantizer measures again are those of images cropped and mirrored so
        return dict.fromkeys(Training.model_fields.keys() - {"epochs", "crop", "flip"}, UNTRAINED)


SHARED_KEYS = (Taught, Further)
