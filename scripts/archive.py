"""Make a model file smaller: its codes entropy coded."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from pathlib import Path

    from kdq.models import archive

    check_code(snakemake.params.job["code"], "scripts/archive.py")
    model, packed = snakemake.input.model, snakemake.output.archive
    archive.pack(model, packed)
    log(f"{Path(model).stat().st_size:,} bytes become {Path(packed).stat().st_size:,}")
