"""Keys that stages of retraining share: how training continues, and from which teacher."""

from kdq.quantize.keys import Layers, Ranges
from kdq.recipe.vocabulary import Annotated, Base, ClassVar, Field, Literal, NonNegative, Temperature
from kdq.train.settings import Training


class Continued(Training):
    """Keys of training that continues from a model: by default shorter and at a lower learning rate."""

    epochs: Annotated[int, Field(ge=1, le=100_000, description="passes over the training part")] = 10
    learning_rate: Annotated[float, Field(ge=1e-8, le=100, description="highest learning rate of the schedule")] = 0.02


# a config's role `student` sets these for networks that start from random weights
OWN_DEFAULTS = ("epochs", "learning_rate")


PARENTS = "parent"  # as the parent's


class Taught(Base):
    """Keys of every stage that trains its parent's network further; so there are no keys of a network."""

    float_parent: ClassVar[bool] = False  # true for a stage that accepts a float parent though its kind does not
    quantized_parent: ClassVar[bool] = True  # false for a stage that does not accept a quantized one

    teacher: Annotated[
        Literal["float", "root", "teacher"],
        Field(
            description="the model to learn from: `float`, the recipe up to its last float model; `root`, its first "
            "stage; or `teacher`, the root of that name, whatever the recipe's own"
        ),
    ] = "float"


class Supervised(Base):
    """Keys of the methods that train on labels and a teacher, quantized weights by straight-through gradients."""

    start: Annotated[
        Literal["codes", "float"],
        Field(
            description="float weights behind a quantized parent's codes to start from: `float`, those of the float "
            "ancestor, each moved to where it rounds to its code, or `codes`, the decoded ones; either way the first "
            "codes and steps are the parent's"
        ),
    ] = "float"
    label_weight: Annotated[NonNegative, Field(description="weight of the cross entropy with the labels")] = 1.0
    distillation_weight: Annotated[NonNegative, Field(description="weight of the match with the teacher's logits")] = (
        1.0
    )
    of_match: ClassVar = ("teacher", "temperature")  # keys that only the match with the teacher's logits reads
    temperature: Annotated[
        Temperature, Field(description="softens both predictions: softmax(logits / temperature)")
    ] = 2.0

    @classmethod
    def unread(cls, values: dict) -> dict[str, str]:
        if not values.get("distillation_weight", cls.model_fields["distillation_weight"].default):
            return dict.fromkeys(cls.of_match, "distillation_weight=0 matches no teacher")
        return {}

    def inconsistency(self) -> str:
        if self.label_weight or self.distillation_weight:
            return ""
        return "label_weight: found 0 beside distillation_weight=0, expected one of them above 0"


class Quantized(Supervised):
    """Keys of the methods that train quantized weights, whose activations may get bits of their own."""

    activations: Annotated[
        Literal[PARENTS, 0] | Annotated[int, Field(ge=4, le=8)],
        Field(
            description="bits per activation, whose scales are learned too: the parent's, 0 for float ones, or 4 to 8"
        ),
    ] = PARENTS
    activation_range: Annotated[
        Ranges, Field(description="range of new activations' codes at the start, as in a quantizer")
    ] = "mse"

    @classmethod
    def unread(cls, values: dict) -> dict[str, str]:
        if values.get("activations", PARENTS) in (PARENTS, 0):
            return {"activation_range": "no activations get new bits"}
        return {}


class Kept(Base):
    """The key of a stage that changes the bits of its parent's layers but those that it names."""

    keep: Annotated[
        Layers,
        Field(
            description="layers whose bits stay the parent's, joined by `+`: `first` and `last` that run, a layer by "
            "its name, or all in a module by that of the module"
        ),
    ] = ""


SHARED_KEYS = (Taught, Continued)
