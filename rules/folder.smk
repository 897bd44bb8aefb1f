# Included before any output: if there is no room for Snakemake's log, every line of output comes with a traceback.
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from kdq.errors import UserError

try:
    from kdq.workflow import launch, snakemake_fixes, working_folder
    from kdq.workflow.settings import Settings, or_stop
except UserError as error:  # of a file that declares a network or a data set
    sys.exit(f"error: {error}")

SETTINGS = Settings(workflow)
snakemake_fixes.apply(workflow)
if SETTINGS.is_main:
    or_stop(SETTINGS.check_config_files)
    or_stop(working_folder.enter, Path(".snakemake"))
