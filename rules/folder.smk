# Included before any output: if there is no room for Snakemake's log, every line of output comes with a traceback.
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from kdq.workflow import snakemake_fixes, working_folder
from kdq.workflow.lock import remove_stale_lock
from kdq.workflow.settings import Settings, or_stop

SETTINGS = Settings(workflow)
snakemake_fixes.apply(workflow)
if SETTINGS.is_main:
    if remove_stale_lock(Path(".snakemake")):
        sys.stderr.write("The lock of a run that was killed is removed.\n")
    or_stop(working_folder.require_free_space, Path(".snakemake"))


def prepare_folder():
    for line in or_stop(working_folder.prepare, Path("results"), Path("logs")):
        sys.stderr.write(f"{line}\n")
