"""The keys that every quantizer has: one calibration, one set of alphabets, one accounting for all."""

from kdq.parameters import Annotated, Base, Field, Literal, Positive, PositiveInt


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
        Literal["search"] | Positive,
        Field(description="C in step = C * radius / 2^(b-1), or the C of the smallest error on the calibration images"),
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
        Literal["keep", "reestimate"], Field(description="running statistics: the float network's, or measured again")
    ] = "keep"
