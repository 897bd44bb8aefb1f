"""Records of tables and figures: the job, inputs and outputs, in a file beside them."""

from pathlib import Path

from kdq.provenance.files import sha256, write_json
from kdq.train import history


def write(path, job: dict, study: dict, inputs: list[str], outputs: list[str]) -> None:
    """Write the record of ``job``: the job itself, its study's source, and the SHA-256 of each input and output file.

    For a history it is the digest of its reproducible part: a repeated training gives the same figure.
    """
    made = {str(file): sha256(file) for file in outputs if str(file) != str(path)}
    inputs_read = {str(file): _digest(file) for file in inputs}
    write_json(path, {"job": job, "study": study, "inputs": inputs_read, "outputs": made})


def _digest(file) -> str:
    return history.digest(file) if Path(file).name == "history.csv" else sha256(file)
