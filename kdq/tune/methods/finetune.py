"""Fine-tuning: the parent's network, float, pruned or quantized, is trained further on labels or with a teacher."""

from kdq.recipe.vocabulary import Annotated, Field, NonNegative
from kdq.retrain.supervision import SupervisedMethod
from kdq.tune.keys import Supervised


class Parameters(Supervised):
    distillation_weight: Annotated[
        NonNegative, Field(description="weight of the match with the teacher's logits; 0 is training on labels alone")
    ] = 0.0


class FineTuning(SupervisedMethod):
    """Train the network as it is; what is pruned stays 0."""
