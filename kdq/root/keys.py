"""Keys of the roots: which one it is, and where its network comes from; and those of any file of weights."""

import re
from pathlib import Path, PurePosixPath

from pydantic import AfterValidator

from kdq.errors import UserError
from kdq.parameters import Annotated, Base, Field, Literal, NonNegativeInt, Positive
from kdq.train.settings import Network

WEIGHTS = {"hub": "pytorch_model.bin", "transformers": "model.safetensors"}
DESCRIPTIONS = {"hub": (), "transformers": ("config.json", "preprocessor_config.json")}


def _hexadecimal(digits: int, meaning: str) -> AfterValidator:
    """Nothing, or so many hexadecimal digits."""

    def check(text: str) -> str:
        if text and not re.fullmatch(f"[0-9a-f]{{{digits}}}", text):
            raise ValueError(f"{digits} hexadecimal digits, {meaning}")
        return text

    return AfterValidator(check)


def _name_of_file(text: str) -> str:
    """Nothing, or the relative path of a file that lies nowhere above."""
    path = PurePosixPath(text)
    if not text.isprintable() or path.is_absolute() or ".." in path.parts or str(path) != (text or "."):
        raise ValueError("the name of a file in the repository or folder")
    return text


def _repository(text: str) -> str:
    if text and not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", text, re.ASCII):
        raise ValueError("a repository of the hub, owner/name")
    return text


def _path(text: str) -> str:
    if not text.isprintable():
        raise ValueError("a path of printable letters")
    return text


class Shared(Base):
    """Which root it is, not how it is made: only a recipe may say it, and it is no part of the resolved keys."""

    seed: Annotated[
        NonNegativeInt | None,
        Field(description="under any seed the very model of this one, copied; only in a recipe: `teacher,seed=0/kd`"),
    ] = None


class Fetched(Base):
    """Where files of a network from outside are: in a hub's repository at a commit, or in a local folder."""

    repository: Annotated[
        str, AfterValidator(_repository), Field(description="a repository of the hub, `owner/name`")
    ] = ""
    revision: Annotated[
        str,
        _hexadecimal(40, "a commit: branches and tags move"),
        Field(description="the repository's commit, 40 hexadecimal digits"),
    ] = ""
    folder: Annotated[
        str, AfterValidator(_path), Field(description="a local folder with the files, instead of a repository")
    ] = ""
    file: Annotated[
        str,
        AfterValidator(_name_of_file),
        Field(
            description="the file of weights; empty is `pytorch_model.bin`, or `model.safetensors` for `source` "
            "`transformers`"
        ),
    ] = ""
    sha256: Annotated[
        str, _hexadecimal(64, "the file's SHA-256"), Field(description="SHA-256 of the file of weights")
    ] = ""

    @classmethod
    def unread(cls, values: dict) -> dict[str, str]:
        if not values.get("folder"):
            return {}
        return dict.fromkeys(("repository", "revision"), "a local folder is given, which has none")

    @classmethod
    def required(cls, values: dict) -> dict[str, str]:
        if values.get("folder"):
            return {}
        return {
            "repository": "a repository of the hub such as edadaltocg/resnet50_cifar10, or the key folder",
            "revision": "a commit of the repository, 40 hexadecimal digits",
            "sha256": "the SHA-256 of the file of weights, 64 hexadecimal digits",
        }


READS = {
    "hub": {"source", *Fetched.model_fields, "mean", "std", *Network.model_fields},
    "transformers": {"source", *Fetched.model_fields, "labels"},
}


class Source(Fetched):
    """Where a root's network comes from; what is fetched is what a source other than `train` reads."""

    source: Annotated[
        Literal["train", "hub", "transformers"],
        Field(
            description="`train`: on labels, here; `hub`: a checkpoint of a ResNet with torchvision's parameter names "
            "(timm's too), which `architecture`, `stem` and `width` describe; `transformers`: any model for "
            "`AutoModelForImageClassification`"
        ),
    ] = "train"
    mean: Annotated[
        list[Annotated[float, Field(allow_inf_nan=False)]],
        Field(
            description="`hub`: mean of each channel, of images in [0, 1], that the network was trained with; empty is "
            "that of `edadaltocg/*_cifar10` and `_cifar100`"
        ),
    ] = []
    std: Annotated[list[Positive], Field(description="`hub`: likewise the standard deviation of each channel")] = []
    labels: Annotated[
        Literal["names", "order"],
        Field(
            description="`transformers`: `names`: the model must name the data set's classes, in their order; `order`: "
            "a model without names (LABEL_0, ...) or with other ones is believed to have that order"
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
    """The names of the files that a root with the resolved ``keys`` is imported from, that of its weights first."""
    source = keys.get("source", "train")
    return () if source == "train" else (keys["file"] or WEIGHTS[source], *DESCRIPTIONS[source])


def local_files(keys: dict) -> list[str]:
    """Their paths, where they lie in a local folder; raises UserError for a missing one."""
    if not keys.get("folder"):
        return []
    paths = [Path(keys["folder"]) / name for name in files(keys)]
    for path in paths:
        if not path.is_file():
            raise UserError(f"folder: found {keys['folder']!r}, which has no file {path.name}, one of the network's")
    return [str(path) for path in paths]
