"""The keys that all quantizers share: alphabet, scale, calibration, order and what follows."""

import re

from pydantic import AfterValidator

from kdq.recipe.vocabulary import Annotated, Base, ClassVar, Field, Literal, PositiveInt

Ranges = Literal["minmax", "percentile", "mse"]
NAME = re.compile(r"[A-Za-z0-9_.-]+")


def _names(text: str) -> str:
    """Return names joined by `+`, sorted and each once: one choice of layers has one spelling."""
    if text and not all(NAME.fullmatch(name) for name in text.split("+")):
        raise ValueError("names of layers joined by +, such as first+last")
    return "+".join(sorted(set(text.split("+"))))


Layers = Annotated[str, AfterValidator(_names)]


class Quantizing(Base):
    """Keys of every quantizer: the alphabet, its scale and the calibration."""

    # Keys that take effect after the layers have been measured alone: the measurement is the same for all values, but
    # for the pair that takes effect before.
    after_measurement: ClassVar = ("bits", "budget", "cost", "order", "pick", "batchnorm", "bias", "memory", "keep")
    before_measurement: ClassVar = ("batchnorm", "fold")
    conflicts: ClassVar[dict[tuple[str, str], str]] = {
        (
            "bias",
            "batchnorm=reestimate",
        ): "statistics that are measured again do not fit biases that were corrected before",
        ("bias", "order"): "means are corrected on the way through the network, layers in the order of execution",
    }

    bits: Annotated[int, Field(ge=2, le=8, description="bits per weight")] = 4
    budget: Annotated[
        Literal[0] | Annotated[float, Field(ge=2, le=8)],
        Field(
            description="mean bits per weight; each layer gets its own bits, at the least sum of their costs; 0: "
            "`bits` in all layers"
        ),
    ] = 0
    cost: Annotated[
        Literal["kl", "loss", "accuracy"],
        Field(
            description="cost of quantizing one layer, on 1,000 validation images: divergence from the parent's "
            "predictions, increase of the cross entropy with the labels, or loss of accuracy"
        ),
    ] = "kl"
    order: Annotated[
        Literal["forward", "iterative"],
        Field(
            description="quantize layers as they are executed, or by `cost`, measured for all that remain after every "
            "layer; each on its inputs in the network as it is by then"
        ),
    ] = "forward"
    pick: Annotated[
        Literal["least", "most"],
        Field(description="which layer comes next: that of the least cost, or of the most, beside those before it"),
    ] = "least"
    keep: Annotated[
        Layers,
        Field(
            description="layers that stay float, joined by `+`: `first` and `last` that run, a layer by its name, or "
            "all in a module by that of the module: `first+layer4.1`; each of their weights counts as 32 bits"
        ),
    ] = ""
    levels: Annotated[
        Literal["2^b", "2^b-1", "paper"],
        Field(
            description="alphabet: all codes of b bits, symmetric ones, or the published 2^b + 1 levels (b + 1 bits)"
        ),
    ] = "2^b"
    granularity: Annotated[Literal["layer", "channel"], Field(description="one step per layer, or one per output")] = (
        "channel"
    )
    scale: Annotated[
        Literal["search", "mse", "minmax"] | Annotated[float, Field(ge=0.01, le=100)],
        Field(
            description="C in step = C * radius / 2^(b-1); `search`: the C with the smallest error of the "
            "layer's outputs on the calibration images; `mse`: with the smallest error of the weights; `minmax`: no "
            "weight in the radius is clipped"
        ),
    ] = "search"
    percentile: Annotated[float, Field(ge=0.1, le=1, description="radius: this quantile of an output's |weights|")] = (
        1.0
    )
    images: Annotated[
        PositiveInt, Field(description="calibration images; all of the training part if it has fewer")
    ] = 256
    patches: Annotated[
        Literal["all", "paper"] | Annotated[int, Field(ge=1, le=10**9)],
        Field(description="a convolution's inputs: all patches, the published sampling, or at most so many per layer"),
    ] = "all"
    memory: Annotated[
        float,
        Field(
            ge=1e-9,
            le=1e6,
            description="GiB of activations in memory; above it each layer takes partial passes, which is slower, and "
            "its inputs lie in files in the temporary folder",
        ),
    ] = 4
    activations: Annotated[
        Literal[0] | Annotated[int, Field(ge=4, le=8)],
        Field(description="bits per activation: inputs of quantized layers, of additions and of the pooling; 0: float"),
    ] = 0
    activation_range: Annotated[
        Ranges,
        Field(
            description="range of an activation's codes: of all values on the calibration images, without the "
            "outermost 0.01%, or of the least squared error"
        ),
    ] = "mse"
    channels: Annotated[
        Literal["keep", "equalize"],
        Field(
            description="`equalize`: the float network's channels between two layers are scaled first, so that both "
            "layers' weights have one range there; a ReLU lies between at most, and nothing else reads them"
        ),
    ] = "keep"
    activation_order: Annotated[
        Literal["first", "last"],
        Field(
            description="quantize activations `first`, and weights on inputs that are quantized, or `last`, and "
            "weights on float inputs; the ranges are the same"
        ),
    ] = "first"
    batchnorm: Annotated[
        Literal["keep", "reestimate", "fold"],
        Field(
            description="running statistics: the float network's, or measured again on the calibration images, cropped "
            "and mirrored as in its training; `fold`: in a network from elsewhere BatchNorm becomes part of the "
            "convolution before it, and with `activations` outputs are quantized too, so that a runtime computes "
            "convolutions on integers (KDQ's own networks always do)"
        ),
    ] = "keep"
    bias: Annotated[
        Literal["keep", "correct"],
        Field(
            description="`correct`: every output has the float network's mean on the calibration images; added to the "
            "layer's bias or, if it has none, subtracted from the running mean of the BatchNorm behind it"
        ),
    ] = "keep"

    def inconsistency(self) -> str:
        least = 3 if self.levels == "paper" else 2
        if 0 < self.budget < least:
            return f"budget: found {self.budget}, expected at least {least}: levels={self.levels} stores no fewer bits"
        if self.batchnorm == "reestimate" and self.images < 2:
            return f"images: found {self.images} beside batchnorm=reestimate, expected at least 2: one has no variance"
        return ""

    @classmethod
    def measurement_keys(cls, values: dict) -> dict:
        """Return those of ``values`` that a measurement of the layers depends on."""
        pairs = values.items()
        return dict(pair for pair in pairs if pair[0] not in cls.after_measurement or pair == cls.before_measurement)

    @classmethod
    def needs_measurement(cls, values: dict) -> bool:
        """Return whether a stage with ``values`` needs the cost of each layer alone."""
        return bool(values.get("budget"))

    @classmethod
    def unread(cls, values: dict) -> dict[str, str]:
        reasons = {"bits": "the budget gives each layer its own"} if values.get("budget") else {}
        if not values.get("activations"):
            reasons |= dict.fromkeys(("activation_range", "activation_order"), "activations are float")
        if values.get("order") != "iterative":
            reasons["pick"] = "nothing is picked without order=iterative"
            if not cls.needs_measurement(values):
                reasons["cost"] = "nothing is chosen by cost without a budget or order=iterative"
        return reasons


class LookingAhead(Quantizing):
    """Keys of quantizers that after every weight correct all later ones, by the correlations of the inputs."""

    damping: Annotated[
        float,
        Field(ge=1e-9, le=100, description="added to the Gram matrix's diagonal, as a share of the diagonal's mean"),
    ] = 0.01
    input_order: Annotated[
        Literal["natural", "activation"],
        Field(description="quantize inputs as they come, or those of the largest energy first"),
    ] = "natural"


SHARED_KEYS = ()
