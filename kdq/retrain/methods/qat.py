"""Quantization-aware training: weights and steps of the quantized network are trained on labels or with a teacher."""

from kdq.recipe.vocabulary import Annotated, Field, NonNegative
from kdq.retrain.keys import Quantized
from kdq.retrain.supervision import SupervisedMethod


class Parameters(Quantized):
    distillation_weight: Annotated[
        NonNegative, Field(description="weight of the match with the teacher's logits; 0 is training on labels alone")
    ] = 0.0


class QAT(SupervisedMethod):
    """Train with learned steps on the labels and, unless ``distillation_weight`` is 0, with a frozen teacher."""
