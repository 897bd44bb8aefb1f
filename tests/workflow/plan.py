"""Print, as JSON, the outputs that Snakemake would make: ``plan.py FOLDER OVERLAY [TARGET ...]``.

A separate process, because the package in FOLDER does the planning. The rerun triggers come from its default profile.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

import yaml
from snakemake.api import SnakemakeApi
from snakemake.settings.enums import RerunTrigger
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings


def plan(folder: Path, overlay: Path, targets: list[str]) -> list[str]:
    profile = yaml.safe_load((folder / "profiles/default/profile.yaml").read_text())
    triggers = frozenset(RerunTrigger.parse_choice(name) for name in profile["rerun-triggers"])
    planned: list[str] = []
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=2),
            config_settings=ConfigSettings(configfiles=[overlay]),
            snakefile=folder / "Snakefile",
            workdir=folder,
        )
        dag = workflow.dag(DAGSettings(targets=set(targets), rerun_triggers=triggers))
        dag.execute_workflow(executor="dryrun", updated_files=planned)
    return sorted(map(str, planned))


if __name__ == "__main__":
    folder, overlay, *targets = sys.argv[1:]
    with contextlib.redirect_stdout(io.StringIO()):
        outputs = plan(Path(folder).resolve(), Path(overlay).resolve(), targets)
    sys.stdout.write(json.dumps(outputs))
