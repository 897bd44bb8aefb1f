"""Keys of the roots: which one it is, and where its network comes from."""

from pathlib import Path

from kdq.declarations import file_of
from kdq.errors import UserError
from kdq.provenance.regular_file import NOTHING, kind
from kdq.recipe.vocabulary import Annotated, Base, Field, Literal, Seed
from kdq.roots.sources import MODULES
from kdq.roots.sources.keys import Fetched
from kdq.train.settings import Network, Training

WEIGHTS = {"hub": "pytorch_model.bin", "transformers": "model.safetensors", "kdq": "model.safetensors"}
DESCRIPTIONS = {"hub": (), "transformers": ("config.json", "preprocessor_config.json"), "kdq": (), "library": ()}
READS = {
    "hub": {"source", *Fetched.model_fields, "mean", "std", *Network.model_fields} - {"weights"},
    "transformers": {"source", *Fetched.model_fields, "labels"},
    "kdq": {"source", *Fetched.model_fields},
    "library": {"source", "labels", "architecture", "weights"},
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
        Literal["train", "hub", "transformers", "kdq", "library"],
        Field(
            description="`train`: on labels, here; `hub`: a checkpoint with our parameter names (torchvision's for "
            "ResNet and MobileNetV2, timm's for ResNet too), which `architecture`, `stem` and `width` describe; "
            "`transformers`: any model for `AutoModelForImageClassification`; `kdq`: a float model file of KDQ; "
            "`library`: the network of timm or torchvision that `architecture` and `weights` name, with their classes"
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
            description="`transformers` and `library`: `names`: the model must name the data set's classes, in their "
            "order; `order`: a model without names (LABEL_0, ...) or with others is taken to have that order"
        ),
    ] = "names"

    @classmethod
    def unread(cls, values: dict) -> dict[str, str]:
        source = values.get("source", cls.model_fields["source"].default)
        imports = set().union(*READS.values()) - set(Network.model_fields) - {"source"}
        reads = READS.get(source, set(cls.model_fields) - imports)
        return {key: f"source={source} does not read this key" for key in cls.model_fields if key not in reads}

    @classmethod
    def required(cls, values: dict) -> dict[str, str]:
        source = values.get("source", "train")
        if source == "library":
            return {"weights": "the name of weights of timm or torchvision such as IMAGENET1K_V1"}
        return {} if source == "train" else super().required(values)


def is_imported(keys: dict) -> bool:
    """Return whether a root with the resolved ``keys`` comes from outside: it may have seen every training image."""
    return keys.get("source", "train") != "train"


def code(keys: dict) -> set[str]:
    """Return the file of the module that imports a root with the resolved ``keys``, to which no import leads."""
    return {file_of(MODULES[keys["source"]])} if is_imported(keys) else set()


def files(keys: dict) -> dict[str, str]:
    """Return the names of the files of an imported root by role, that of its weights first.

    A description's role is its name.
    """
    if not is_imported(keys):
        return {}
    source = keys["source"]
    if source == "library":
        return {"weights": keys["weights"]}
    return {"weights": keys["file"] or WEIGHTS[source], **{name: name for name in DESCRIPTIONS[source]}}


def local_files(keys: dict) -> dict[str, Path]:
    """Return the paths of those files if ``folder`` is local; raise UserError unless each is a regular file."""
    if not keys.get("folder"):
        return {}
    folder = Path(keys["folder"])
    for name in files(keys).values():
        if not (folder / name).is_file():
            raise UserError(_not_there(folder, name))
    return {role: folder / name for role, name in files(keys).items()}


def _not_there(folder: Path, name: str) -> str:
    """Return the message on a file of a local folder that is missing or no regular file."""
    path, text = folder / name, f"folder: found {str(folder)!r}"
    if (folder / f"{name}.index.json").is_file():
        return f"{text}, in which {name} is in several parts (sharded), expected one file"
    if (lies_there := kind(path)) != NOTHING:
        return f"{text}, in which {name} is {lies_there}, expected a file"
    return f"{text}, which has no file {name}, one of the network's"


SHARED_KEYS = (Shared, Network, Training)
