"""The claim of a product: the code, keys and inputs that its header names."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kdq.provenance import formats
from kdq.provenance.verify.contents import Content
from kdq.study.products import Product


@dataclass(frozen=True)
class Claim:
    """Code, keys and inputs (SHA-256 by role) that a product was made from, and the digests of its files by path."""

    code: str = ""
    keys: dict = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        texts = [self.code, *self.inputs.values(), *self.outputs.values()]
        if not isinstance(self.keys, dict) or not all(isinstance(text, str) for text in texts):
            raise TypeError("no claim: expected digests as texts and keys with values")


OF_CODE = ("code", "files")  # of a job: the fingerprint, and the files that it covers besides the script's imports


def claim_of(product: Product, contents: Mapping[str, Content]) -> Claim:
    """Return the claim of a product of which every file is there.

    Raises KeyError, TypeError or AttributeError if its header holds none.
    """
    (path, form), *companions = product.outputs.items()
    content = contents[path]
    if product.is_copy:
        return Claim(inputs={"original": content.known_as})
    header, beside = content.header, [companion for companion, _ in companions]
    match form:
        case formats.CODE:
            return Claim()
        case formats.RECORD:
            job = header["job"]
            keys = {key: value for key, value in job.items() if key not in OF_CODE}
            outputs = {companion: header["outputs"][companion] for companion in beside}
            return Claim(job["code"], keys, header["inputs"], outputs)
        case formats.METRICS:
            made_by = header["evaluation"]
            return Claim(made_by["code"], {}, made_by["inputs"], dict.fromkeys(beside, made_by["predictions"]))
        case formats.ARCHIVE:
            return Claim(header["archive"]["code"], {}, header["archive"]["inputs"])
        case formats.MODEL:
            outputs = dict.fromkeys(beside, header["history"]) if beside else {}
            made_by = header["provenance"]
            return Claim(made_by["code"], header["keys"] | _computed_with(made_by), made_by["inputs"], outputs)
        case formats.SENSITIVITY:
            made_by = header["provenance"]
            return Claim(made_by["code"], header["keys"] | _computed_with(made_by), made_by["inputs"])
    made_by = header["provenance"]
    return Claim(made_by["code"], header.get("keys", made_by.get("keys", {})), made_by.get("inputs", {}))


def _computed_with(made_by: dict) -> dict:
    """Return the threads that a model or measurement was computed with, none if it was imported; and a library."""
    return {key: made_by[key] for key in ("threads", "library") if key in made_by}
