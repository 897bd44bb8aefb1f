"""Keys of the roots: which one it is, and where its network comes from."""

from pathlib import Path

from kdq.errors import UserError
from kdq.recipe.vocabulary import Annotated, Base, Field, Literal, Seed
from kdq.roots.sources.keys import Fetched
from kdq.train.settings import Network, Training

WEIGHTS = {"hub": "pytorch_model.bin", "transformers": "model.safetensors"}
DESCRIPTIONS = {"hub": (), "transformers": ("config.json", "preprocessor_config.json")}
READS = {
    "hub": {"source", *Fetched.model_fields, "mean", "std", *Network.model_fields},
    "transformers": {"source", *Fetched.model_fields, "labels"},
}


class Shared(Base):
    """Which root it is, not how it is made: allowed in recipes only, and no part of the resolved keys."""

    seed: Annotated[
        Seed | None,
        Field(description="under any seed the very model of this one, copied; only in a recipe: `teacher,seed=0/kd`"),
    ] = None


class Source(Fetched):
    """Where a root's network comes from; sources other than `train` read the keys of ``Fetched``."""

    source: Annotated[
        Literal["train", "hub", "transformers"],
        Field(
            description="`train`: on labels, here; `hub`: a checkpoint with our parameter names (torchvision's for "
            "ResNet and MobileNetV2, timm's for ResNet too), which `architecture`, `stem` and `width` describe; "
            "`transformers`: any model for `AutoModelForImageClassification`"
        ),
    ] = "train"
    mean: Annotated[
        list[Annotated[float, Field(ge=0, le=1)]],
        Field(
            description="`hub`: mean of each channel, of images in [0, 1], that the network was trained with; empty is "
            "that of `edadaltocg/*_cifar10` and `_cifar100`"
        ),
    ] = []
    std: Annotated[
        list[Annotated[float, Field(ge=0.001, le=10)]],
        Field(description="`hub`: likewise the standard deviation of each channel"),
    ] = []
    labels: Annotated[
        Literal["names", "order"],
        Field(
            description="`transformers`: `names`: the model must name the data set's classes, in their order; `order`: "
            "a model without names (LABEL_0, ...) or with others is taken to have that order"
        ),
    ] = "names"

    @classmethod
    def unread(cls, values: dict) -> dict[str, str]:
        source = values.get("source", cls.model_fields["source"].default)
        imports = set().union(*READS.values()) - set(Network.model_fields) - {"source"}
        reads = READS.get(source, set(cls.model_fields) - imports)
        reasons = {key: f"source={source} does not read this key" for key in cls.model_fields if key not in reads}
        return reasons | (super().unread(values) if source in READS else {})

    @classmethod
    def required(cls, values: dict) -> dict[str, str]:
        return {} if values.get("source", "train") == "train" else super().required(values)


def files(keys: dict) -> tuple[str, ...]:
    """Return the names of the files of an imported root with the resolved ``keys``, that of its weights first."""
    source = keys.get("source", "train")
    return () if source == "train" else (keys["file"] or WEIGHTS[source], *DESCRIPTIONS[source])


def local_files(keys: dict) -> list[str]:
    """Return the paths of those files if ``folder`` is local; raise UserError for a missing file."""
    if not keys.get("folder"):
        return []
    paths = [Path(keys["folder"]) / name for name in files(keys)]
    for path in paths:
        if not path.is_file():
            raise UserError(f"folder: found {keys['folder']!r}, which has no file {path.name}, one of the network's")
    return [str(path) for path in paths]


SHARED_KEYS = (Shared, Network, Training)
