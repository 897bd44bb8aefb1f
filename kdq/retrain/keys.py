"""Keys that stages of retraining share: how the training goes on, and from whom it learns."""

from kdq.recipe.vocabulary import Annotated, Base, ClassVar, Field, Literal, NonNegative, Positive, PositiveInt
from kdq.train.settings import Training


class Continued(Training):
    """Training that goes on from a model: the keys of any training, shorter and at a lower learning rate by default."""

    epochs: Annotated[PositiveInt, Field(description="passes over the training part")] = 10
    learning_rate: Annotated[Positive, Field(description="highest learning rate of the schedule")] = 0.01


# what the role `student` says of these is meant for networks that begin with random weights
OWN_DEFAULTS = ("epochs", "learning_rate")


class Taught(Base):
    """Keys of every stage of kind retrain; its network is the parent's, so that it has none of a network's keys."""

    float_parent: ClassVar[bool] = False  # a stage that also takes a parent without quantized layers says so

    teacher: Annotated[
        Literal["float", "root"],
        Field(
            description="the model to learn from: `float`, the recipe up to its last stage of kind root or distill, or "
            "`root`, its first stage"
        ),
    ] = "float"


class Quantized(Base):
    """Keys of the methods that train quantized weights by straight-through gradients, on labels and with a teacher."""

    conflicts: ClassVar = {("start", "teacher"): "the weights to start from are those of the float ancestor"}

    start: Annotated[
        Literal["codes", "float"],
        Field(
            description="float weights behind the codes to start from: `codes`, the decoded ones, or `float`, those of "
            "the float ancestor, each moved to where it is rounded to its code; either way the first codes are the "
            "parent's"
        ),
    ] = "codes"
    label_weight: Annotated[NonNegative, Field(description="weight of the cross entropy with the labels")] = 1.0
    distillation_weight: Annotated[NonNegative, Field(description="weight of the match with the teacher's logits")] = (
        1.0
    )
    temperature: Annotated[Positive, Field(description="softens both predictions: softmax(logits / temperature)")] = 2.0

    def inconsistency(self) -> str:
        if self.label_weight or self.distillation_weight:
            return ""
        return "label_weight: found 0 beside distillation_weight=0, expected one of them above 0"


SHARED_KEYS = (Taught, Continued)
