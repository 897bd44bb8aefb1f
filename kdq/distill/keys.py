"""Keys that stages of distillation share."""

from kdq.parameters import Annotated, Base, ClassVar, Field, Fraction, NonNegative


class Distilling(Base):
    """Keys of every stage of kind distill; a method that can't do with one says so in its ``refuses``."""

    conflicts: ClassVar = {
        ("teacher_cache", "mixup"): "the cache holds the teacher's logits of crops and flips, not of mixed images",
        ("teacher_cache", "cutout"): "the cache holds the teacher's logits of crops and flips, not of cut out squares",
    }

    mixup: Annotated[
        NonNegative,
        Field(description="mix the images that both networks see: parameter of the Beta distribution; 0 is none"),
    ] = 0.0
    label_smoothing: Annotated[
        Fraction, Field(description="share of each label that is spread over all classes in the cross entropy")
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
