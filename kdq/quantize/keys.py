"""The keys that every quantizer has: one calibration, one set of alphabets, one accounting for all."""

from kdq.recipe.vocabulary import Annotated, Base, ClassVar, Field, Literal, Positive, PositiveInt


class Quantizing(Base):
    """What every quantizer has in common: the alphabet, its scale and the calibration."""

    # What is done with a network whose layers have been measured alone; the measurement is the same for all values.
    after_measurement: ClassVar = ("bits", "budget", "cost", "order", "batchnorm", "bias", "memory")
    conflicts: ClassVar[dict[tuple[str, str], str]] = {
        ("bias", "batchnorm"): "statistics that are measured again do not fit biases that were corrected before",
        ("bias", "order"): "means are corrected on the way through the network, layers in the order of execution",
    }

    bits: Annotated[int, Field(ge=2, le=8, description="bits a weight")] = 4
    budget: Annotated[
        Literal[0] | Annotated[float, Field(ge=2, le=8)],
        Field(
            description="mean bits a weight; each layer gets its own bits, at the least sum of their costs; 0: `bits` "
            "in all layers"
        ),
    ] = 0
    cost: Annotated[
        Literal["kl", "loss", "accuracy"],
        Field(
            description="what a layer costs that is quantized alone, on the calibration images: divergence from the "
            "parent's predictions, increase of the cross entropy with the labels, or loss of accuracy"
        ),
    ] = "kl"
    order: Annotated[
        Literal["forward", "greedy"],
        Field(
            description="layers are quantized as they are executed, or by rising cost, each on what the network passes "
            "on by then"
        ),
    ] = "forward"
    levels: Annotated[
        Literal["2^b", "2^b-1", "paper"],
        Field(
            description="alphabet: all codes of b bits, symmetric ones, or the published 2^b + 1 levels (b + 1 bits)"
        ),
    ] = "2^b"
    granularity: Annotated[Literal["layer", "channel"], Field(description="one step a layer, or one an output")] = (
        "channel"
    )
    scale: Annotated[
        Literal["search", "mse", "minmax"] | Positive,
        Field(
            description="C in step = C * radius / 2^(b-1); `search`: that of the smallest error of the layer's outputs "
            "on the calibration images; `mse`: of the smallest error of the weights; `minmax`: no weight in the radius "
            "is clipped"
        ),
    ] = "search"
    percentile: Annotated[float, Field(gt=0, le=1, description="radius: this quantile of an output's |weights|")] = 1.0
    images: Annotated[PositiveInt, Field(description="calibration images")] = 256
    patches: Annotated[
        Literal["all", "paper"] | PositiveInt,
        Field(description="a convolution's inputs: all patches, the published sampling, or at most so many a layer"),
    ] = "all"
    memory: Annotated[
        Positive, Field(description="GiB of activations in memory; what is more waits on disk, in the temporary folder")
    ] = 4
    batchnorm: Annotated[
        Literal["keep", "reestimate"],
        Field(
            description="running statistics: the float network's, or measured again on the calibration images, cropped "
            "and mirrored as its training did"
        ),
    ] = "keep"
    bias: Annotated[
        Literal["keep", "correct"],
        Field(
            description="`correct`: every output has the float network's mean on the calibration images; added to the "
            "layer's bias or, where it has none, taken from the running mean of the BatchNorm behind it"
        ),
    ] = "keep"

    def inconsistency(self) -> str:
        least = 3 if self.levels == "paper" else 2
        if 0 < self.budget < least:
            return f"budget: found {self.budget}, expected at least {least}: levels={self.levels} stores no fewer bits"
        return ""

    @classmethod
    def needs_measurement(cls, values: dict) -> bool:
        """Whether a stage with ``values`` asks what each layer costs alone."""
        return bool(values.get("budget")) or values.get("order") == "greedy"

    @classmethod
    def unread(cls, values: dict) -> dict[str, str]:
        found = {"bits": "the budget gives each layer its own"} if values.get("budget") else {}
        if not cls.needs_measurement(values):
            found["cost"] = "nothing is chosen by cost without a budget or order=greedy"
        return found


class LookingAhead(Quantizing):
    """What the quantizers have in common that after every weight change all later ones, by the inputs' correlations."""

    damping: Annotated[
        Positive, Field(description="added to the Gram matrix's diagonal, as a share of the diagonal's mean")
    ] = 0.01
    input_order: Annotated[
        Literal["natural", "activation"],
        Field(description="inputs are quantized as they come, or those of the largest energy first"),
    ] = "natural"


SHARED_KEYS = ()
