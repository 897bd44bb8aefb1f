"""Make a model file smaller: its codes entropy coded."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from pathlib import Path

    from kdq.models import archive
    from kdq.provenance.place import check_places

    job, model, packed = snakemake.params.job, snakemake.input.model, snakemake.output.archive
    check_code(job["code"], "scripts/archive.py", *job["files"])
    check_places({"model": model})
    archive.pack(model, packed, job["code"])
    log(f"{Path(model).stat().st_size:,} bytes become {Path(packed).stat().st_size:,}")
