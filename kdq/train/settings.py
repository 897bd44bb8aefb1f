"""The keys of every stage that trains: how a network is built and how it is trained."""

import re

from pydantic import AfterValidator

from kdq.models import registry
from kdq.models.family import LIBRARY_KEYS, OWN_KEYS
from kdq.recipe.vocabulary import (
    Annotated,
    Base,
    Field,
    Fraction,
    Literal,
    PositiveInt,
    ProperFraction,
)


def _pinned(text: str) -> str:
    """Admit the empty text, a name of torchvision's enum of weights, and timm's tag at a commit."""
    if not re.fullmatch(r"|[A-Z][A-Z0-9_]{0,99}|[\w.-]{1,100}@[0-9a-f]{40}", text, re.ASCII):
        raise ValueError("torchvision's name such as IMAGENET1K_V1, or timm's tag at a commit, TAG@40 hex digits")
    return text


class Network(Base):
    """Which network is trained; the data set gives its classes and channels."""

    architecture: Annotated[
        str,
        AfterValidator(registry.trainable),
        Field(
            description="the network: "
            + ", ".join(f"`{name}`" for name in (*registry.NAMES, *", ".join(registry.SPELLINGS).split(", ")))
            + "; a name of timm or torchvision in the config, not in a recipe"
        ),
    ] = "resnet18"
    stem: Annotated[
        Literal["cifar", "imagenet"],
        Field(description="first layers: `cifar` is 3x3, stride 1, no pooling; `imagenet` 7x7, stride 2, max pooling"),
    ] = "cifar"
    width: Annotated[float, Field(ge=0.01, le=16, description="factor on every channel count")] = 1.0
    resize: Annotated[
        int,
        Field(
            ge=0,
            le=1024,
            description="a network of timm or torchvision: side in pixels that it resizes images to; 0 is as they are",
        ),
    ] = 0
    weights: Annotated[
        str,
        AfterValidator(_pinned),
        Field(
            description="a network of timm or torchvision: weights to begin with, all but the classifier's: the name "
            "in torchvision's enum (`IMAGENET1K_V1`), or timm's tag at a commit of its repository "
            "(`a1_in1k@<40 hexadecimal digits>`); empty is none, new ones"
        ),
    ] = ""

    @classmethod
    def unread(cls, values: dict) -> dict[str, str]:
        architecture = values.get("architecture", cls.model_fields["architecture"].default)
        read = next((family.keys for family in registry.FAMILIES if family.has(architecture)), OWN_KEYS)
        others = {*OWN_KEYS, *LIBRARY_KEYS}.difference(read)
        return dict.fromkeys(others, f"architecture={architecture} does not read this key")


class Training(Base):
    """How a network is trained; the same keys for every stage that trains."""

    epochs: Annotated[int, Field(ge=1, le=100_000, description="passes over the training part")] = 100
    batch_size: Annotated[PositiveInt, Field(description="images per step, at most those of the training part")] = 128
    learning_rate: Annotated[float, Field(ge=1e-8, le=100, description="highest learning rate of the schedule")] = 0.1
    momentum: Annotated[ProperFraction, Field(description="Nesterov momentum; 0 is plain SGD")] = 0.9
    weight_decay: Annotated[float, Field(ge=0, le=1, description="L2 penalty on the parameters of `decayed`")] = 5e-4
    decayed: Annotated[
        Literal["all", "weights"],
        Field(description="`all` parameters, or `weights` of convolutions and linear layers, not BatchNorm and biases"),
    ] = "all"
    schedule: Annotated[
        Literal["cosine", "onecycle"],
        Field(description="`cosine` falls from the start; `onecycle` rises for the share `rise`, then falls linearly"),
    ] = "cosine"
    rise: Annotated[Fraction, Field(description="share of the steps in which `onecycle` rises")] = 0.2
    averaging: Annotated[
        ProperFraction, Field(description="decay per step of the exponential moving average of the weights; 0 is none")
    ] = 0.0
    crop: Annotated[
        int,
        Field(ge=0, le=256, description="pixels of padding before the random crop, at most half a side; 0 is no crop"),
    ] = 4
    area: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="instead of `crop`: smallest share of an image that a random box takes, which is resized to "
            "the image's size (torchvision's RandomResizedCrop; for ImageNet 0.08); not set is none",
        ),
    ] = 0.0
    flip: Annotated[bool, Field(description="mirror images at random")] = True
    cutout: Annotated[
        int,
        Field(ge=0, le=512, description="side in pixels of the square that is cut out, at most the image's; 0 is none"),
    ] = 0
    resolution: Annotated[
        int,
        Field(
            ge=0,
            le=1024,
            description="shorter side in pixels that augmented images are reduced to in the first epochs; 0 is never; "
            "validation is always at full size",
        ),
    ] = 0
    resolution_share: Annotated[
        ProperFraction, Field(description="share of the epochs with images of `resolution`, rounded to whole epochs")
    ] = 0.5
    precision: Annotated[
        Literal["auto", "bfloat16", "float32"],
        Field(
            description="`auto` is bfloat16 autocast if the device computes in it, else float32; for unlike machines "
            "set one of the two: comparisons across both have no verdict"
        ),
    ] = "auto"
    select: Annotated[
        Literal["best", "last"],
        Field(description="the epoch that is saved: the best by validation accuracy, or the last"),
    ] = "best"

    @classmethod
    def unread(cls, values: dict) -> dict[str, str]:
        return {"crop": "area crops instead"} if values.get("area") else {"area": "without it there is none"}
