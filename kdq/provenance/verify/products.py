"""What the jobs of the workflow make, and what each says that it was made from.

A product is what one job makes: files that are made together. Its ``claim`` is read from its files: the fingerprint of
the code, the keys, the SHA-256 of the inputs. The rest is what the workflow would make it from now.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kdq.provenance.verify.contents import Content


@dataclass(frozen=True)
class Claim:
    """Code, keys and inputs (SHA-256 by role) that a product was made from, and the digests of some of its files."""

    code: str = ""
    keys: dict = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        texts = [self.code, *self.inputs.values(), *self.outputs.values()]
        if not isinstance(self.keys, dict) or not all(isinstance(text, str) for text in texts):
            raise TypeError("no claim: expected digests as texts and keys with values")


@dataclass(frozen=True)
class Product:
    """Files that one job makes, and what it would make them from.

    ``name`` is what its keys go by; ``code`` the files whose code it depends on; ``inputs`` the paths of its inputs by
    role; ``identity`` what each file must say of itself. A role that a claim has besides, such as the cache of a
    teacher, is looked for among all files.
    """

    name: str
    outputs: tuple[str, ...]
    claim: Callable[[Mapping[str, Content]], Claim]
    code: tuple[str, ...] = ()
    keys: dict = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    identity: dict[str, dict] = field(default_factory=dict)


def claim_of_tensors(path: str, history: str = "") -> Callable[[Mapping[str, Content]], Claim]:
    """The claim in the header of a safetensors file; of a trained model also that of its history."""

    def claim(contents: Mapping[str, Content]) -> Claim:
        says = contents[path].says
        made_by = says["provenance"]
        keys = says["keys"] if "keys" in says else made_by.get("keys", {})
        outputs = {history: says["history"]} if history else {}
        return Claim(made_by["code"], keys, made_by.get("inputs", {}), outputs)

    return claim


def claim_of_metrics(path: str, predictions: str) -> Callable[[Mapping[str, Content]], Claim]:
    """The claim of an evaluation, in its metrics."""

    def claim(contents: Mapping[str, Content]) -> Claim:
        made_by = contents[path].says["evaluation"]
        return Claim(made_by["code"], {}, made_by["inputs"], {predictions: made_by["predictions"]})

    return claim


def claim_of_record(path: str, beside: tuple[str, ...]) -> Callable[[Mapping[str, Content]], Claim]:
    """The claim of tables and figures, in the record that stands ``beside`` them."""

    def claim(contents: Mapping[str, Content]) -> Claim:
        says = contents[path].says
        keys = dict(says["job"])
        outputs = {file: says["outputs"][file] for file in beside}
        return Claim(keys.pop("code"), keys, says["inputs"], outputs)

    return claim


def claim_of_copy(path: str) -> Callable[[Mapping[str, Content]], Claim]:
    """A copy says by its content what it is a copy of."""
    return lambda contents: Claim(inputs={"original": contents[path].sha256})


def no_claim(contents: Mapping[str, Content]) -> Claim:
    """Of what is checked by its content alone."""
    return Claim()
