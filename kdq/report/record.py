"""What a table or a figure was made from: a file beside it."""

from kdq.files import sha256, write_json


def write(path, job: dict, inputs: list[str], outputs: list[str]) -> None:
    """Write the record of what ``job`` made: the job, and the SHA-256 of each of its input and output files."""
    made = {str(file): sha256(file) for file in outputs if str(file) != str(path)}
    write_json(path, {"job": job, "inputs": {str(file): sha256(file) for file in inputs}, "outputs": made})
