"""Keys that name a file of imported weights, of a root or of a student that starts from them."""

import re
from pathlib import PurePosixPath

from pydantic import AfterValidator

from kdq.recipe.vocabulary import Annotated, Base, Field


def _hexadecimal(digits: int, meaning: str) -> AfterValidator:
    """Admit the empty text or that many hexadecimal digits."""

    def check(text: str) -> str:
        if text and not re.fullmatch(f"[0-9a-f]{{{digits}}}", text):
            raise ValueError(f"{digits} hexadecimal digits, {meaning}")
        return text

    return AfterValidator(check)


def _name_of_file(text: str) -> str:
    """Admit the empty text or a relative path without `..`."""
    path = PurePosixPath(text)
    if not text.isprintable() or path.is_absolute() or ".." in path.parts or str(path) != (text or "."):
        raise ValueError("the name of a file in the repository or folder")
    return text


def _repository(text: str) -> str:
    if text and not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", text, re.ASCII):
        raise ValueError("a repository of the hub, owner/name")
    return text


def path_of_folder(text: str) -> str:
    """Admit a path without control characters, which no message could show and of which NUL is in no path."""
    if not text.isprintable():
        raise ValueError("a path of printable letters")
    return text


class Fetched(Base):
    """The place of an imported network's files: a hub's repository at a commit, or a local folder."""

    repository: Annotated[
        str, AfterValidator(_repository), Field(description="a repository of the hub, `owner/name`")
    ] = ""
    revision: Annotated[
        str,
        _hexadecimal(40, "a commit: branches and tags move"),
        Field(description="the repository's commit, 40 hexadecimal digits"),
    ] = ""
    folder: Annotated[
        str, AfterValidator(path_of_folder), Field(description="a local folder with the files, instead of a repository")
    ] = ""
    file: Annotated[
        str,
        AfterValidator(_name_of_file),
        Field(
            description="the file of weights; empty is `pytorch_model.bin`, or `model.safetensors` for `source` "
            "`transformers` or `kdq`"
        ),
    ] = ""
    sha256: Annotated[
        str,
        _hexadecimal(64, "the file's SHA-256"),
        Field(description="SHA-256 of the file of weights; a root's from a local folder may leave it out"),
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
