"""Records of tables and figures: the job, inputs and outputs, in a file beside them."""

from pathlib import Path

from kdq.errors import UserError
from kdq.provenance.files import read_json, sha256, write_json
from kdq.train import history


def write(path, job: dict, study: dict, inputs: list[str], outputs: list[str]) -> None:
    """Write the record of ``job``: the job itself, its study's source, and the SHA-256 of each input and output file.

    For a history it is the digest of its reproducible part: a repeated training gives the same figure.
    """
    made = {str(file): sha256(file) for file in outputs if str(file) != str(path)}
    inputs_read = {str(file): _digest(file) for file in inputs}
    write_json(path, {"job": job, "study": study, "inputs": inputs_read, "outputs": made})


def check(table) -> None:
    """Raise UserError unless a record beside the file ``table`` holds the digest that the file has."""
    records = [read_json(path, sealed=True) for path in sorted(Path(table).parent.glob("*.json"))]
    digests = {Path(file).name: digest for record in records for file, digest in record.get("outputs", {}).items()}
    recorded = digests.get(Path(table).name)
    if recorded != sha256(table):
        reason = "its content is not what was written" if recorded else "no record beside it tells how it was made"
        raise UserError(f"{table}: {reason}; remove it and run again")


def _digest(file) -> str:
    return history.digest(file) if Path(file).name == "history.csv" else sha256(file)
