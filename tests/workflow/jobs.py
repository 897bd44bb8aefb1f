"""Print, as JSON, all rules with outputs and all jobs to be run: ``jobs.py FOLDER OVERLAY [TARGET ...]``.

A process of its own, because the package that plans is the one in FOLDER.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings


def jobs(folder: Path, overlay: Path, targets: list[str]) -> dict:
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=2),
            config_settings=ConfigSettings(configfiles=[overlay]),
            snakefile=folder / "Snakefile",
            workdir=folder,
        )
        workflow.dag(DAGSettings(targets=set(targets))).execute_workflow(executor="dryrun")
        rules, planned = workflow._workflow.rules, workflow._workflow.dag.jobs
        return {
            "rules": [rule.name for rule in rules if rule.output],
            "jobs": [described(job) for job in planned if job.output],
        }


def described(job) -> dict:
    named = {role: [files] if isinstance(files, str) else list(files) for role, files in job.input._allitems() if role}
    return {
        "rule": job.rule.name,
        "output": list(job.output),
        "input": list(job.input),
        "roles": named,
        "job": dict(job.params.get("job") or {}),
    }


if __name__ == "__main__":
    folder, overlay, *targets = sys.argv[1:]
    with contextlib.redirect_stdout(io.StringIO()):
        found = jobs(Path(folder).resolve(), Path(overlay).resolve(), targets)
    sys.stdout.write(json.dumps(found))
