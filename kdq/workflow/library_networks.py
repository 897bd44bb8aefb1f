"""Networks of timm and torchvision as planning knows them: that they exist, and what they cost.

Both are asked of a process that imports the library and torch. What it says is kept below the working folder.
"""

import json
import subprocess
import sys
from pathlib import Path

from kdq.data.data_sets import Images
from kdq.errors import UserError
from kdq.models.libraries import made_with
from kdq.provenance.notes import Notes

KEPT = Path(".snakemake/networks")  # below the working folder
DESCRIPTION = ("architecture", "resize", "source", "weights")


class LibraryNetworks:
    """The counts of networks, asked for once; ``home`` is the folder that holds the package."""

    def __init__(self, home: Path, kept: Path | None = KEPT):
        self.home, self.notes = home, Notes(kept)

    def costs(self, networks: list[tuple[dict, Images]]) -> list[dict]:
        """Return multiply-adds, activations and parameters per image of networks by a stage's keys and its images.

        They are empty if torch is not installed here. Raise UserError if there is no such network.
        """
        asked = {name: network for name, network in map(_question, networks)}
        known = {name: self.notes.read(name) for name in asked}
        if missing := [name for name in asked if not known[name]]:
            for name, answer in zip(missing, self._asked([asked[name] for name in missing]), strict=True):
                if "error" in answer:
                    raise UserError(answer["error"])
                known[name] = answer
                if answer:
                    self.notes.write(name, answer)
        return [known[_question(network)[0]] for network in networks]

    def _asked(self, networks: list[dict]) -> list[dict]:
        command = [sys.executable, "-m", "kdq.models.library_costs"]
        done = subprocess.run(
            command, input=json.dumps(networks), cwd=self.home, capture_output=True, text=True, encoding="utf-8"
        )
        if done.returncode and "ModuleNotFoundError: No module named 'torch'" in done.stderr:
            return [{}] * len(networks)
        if done.returncode:
            raise UserError(f"{' '.join(command[1:])}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
        return json.loads(done.stdout)


def _question(network: tuple[dict, Images]) -> tuple[str, dict]:
    """Return the name by which an answer is kept, and the question."""
    keys, images = network
    size = {"classes": images.classes, "channels": images.channels, "side": images.side}
    question = {"keys": {key: keys[key] for key in DESCRIPTION if key in keys}, "size": size}
    return json.dumps(question | made_with(keys), sort_keys=True), question
