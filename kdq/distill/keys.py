"""Keys that stages of distillation share."""

from pydantic import AfterValidator

from kdq.recipe.vocabulary import Annotated, Base, ClassVar, Field, Literal, ProperFraction
from kdq.roots.sources.keys import Fetched
from kdq.train.settings import Network, Training


def _concentration(value: float) -> float:
    """Admit 0 and what can be drawn: far below 0.01 both Gamma variables are the smallest float, and the share 1/2."""
    if 0 < value < 0.01:
        raise ValueError("0 or at least 0.01")
    return value


class Distilling(Base):
    """Keys of every stage of kind distill; a method that can't support one lists it in its ``refuses``."""

    conflicts: ClassVar = {
        ("teacher_cache", "mixup"): "the cache holds the teacher's logits of crops and flips, not of mixed images",
        ("teacher_cache", "cutout"): "the cache holds the teacher's logits of crops and flips, not of cut out squares",
        ("teacher_cache", "resolution"): "the cache holds the teacher's logits of images at full size",
    }

    mixup: Annotated[
        float,
        Field(
            ge=0,
            le=100,
            description="mix the images that both networks see: parameter of the Beta distribution; 0 is none",
        ),
        AfterValidator(_concentration),
    ] = 0.0
    label_smoothing: Annotated[
        ProperFraction, Field(description="share of each label that is spread over all classes in the cross entropy")
    ] = 0.0
    teacher_cache: Annotated[
        bool,
        Field(description="compute the teacher's logits of all crops and flips once, for all students of the teacher"),
    ] = False


class Logits(Base):
    """Keys of the methods that compare logits; see ``kdq.distill.standardize.compared``."""

    standardize: Annotated[
        bool,
        Field(
            description="compare each row's logits as (z - mean) / std (arXiv:2403.01427); its authors take "
            "temperature=2 and weight 9 for KD with it"
        ),
    ] = False


class Warmup(Base):
    """Keys of the methods whose match with the teacher grows; see ``kdq.distill.method.Method.growth``."""

    warmup: Annotated[
        ProperFraction,
        Field(
            description="share of the epochs in which the match with the teacher grows linearly to its weight; "
            "published: 20 of 240 epochs"
        ),
    ] = 0.0833


class Start(Fetched):
    """Keys of the methods whose student may start from weights for ImageNet; see ``kdq.distill.imagenet_start``."""

    student: Annotated[
        Literal["fresh", "imagenet"],
        Field(
            description="the student begins with new weights, or with those of a ResNet for ImageNet in a file with "
            "torchvision's parameter names (timm's too): all of its tensors but the classifier's, `fc.weight` and "
            "`fc.bias`, and for `stem=cifar` the first convolution's, `conv1.weight`; these begin new"
        ),
    ] = "fresh"

    @classmethod
    def unread(cls, values: dict) -> dict[str, str]:
        if values.get("student", "fresh") == "fresh":
            return dict.fromkeys(Fetched.model_fields, "student=fresh does not read this key")
        return {}

    @classmethod
    def required(cls, values: dict) -> dict[str, str]:
        if values.get("student", "fresh") == "fresh":
            return {}
        # required for a local file too, since it is no input of the rule
        return super().required(values) | {"sha256": "the SHA-256 of the file of weights, 64 hexadecimal digits"}


SHARED_KEYS = (Distilling, Network, Training)
