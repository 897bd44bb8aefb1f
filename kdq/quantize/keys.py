"""The keys that every quantizer has: one calibration, one set of alphabets, one accounting for all."""

from kdq.parameters import Annotated, Base, ClassVar, Field, Literal, Positive, PositiveInt


class Quantizer(Base):
    """What every quantizer has in common: the alphabet, its scale and the calibration."""

    bits: Annotated[int, Field(ge=2, le=8, description="bits a weight")] = 4
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
    batchnorm: Annotated[
        Literal["keep", "reestimate"], Field(description="running statistics: the float network's, or measured again")
    ] = "keep"
    bias: Annotated[
        Literal["keep", "correct"],
        Field(
            description="`correct`: every output has the float network's mean on the calibration images; added to the "
            "layer's bias or, where it has none, taken from the running mean of the BatchNorm behind it"
        ),
    ] = "keep"

    conflicts: ClassVar[dict[tuple[str, str], str]] = {
        ("bias", "batchnorm"): "statistics that are measured again do not fit biases that were corrected before"
    }


class LookingAhead(Quantizer):
    """What the quantizers have in common that after every weight change all later ones, by the inputs' correlations."""

    damping: Annotated[
        Positive, Field(description="added to the Gram matrix's diagonal, as a share of the diagonal's mean")
    ] = 0.01
    input_order: Annotated[
        Literal["natural", "activation"],
        Field(description="inputs are quantized as they come, or those of the largest energy first"),
    ] = "natural"
