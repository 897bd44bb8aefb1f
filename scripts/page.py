"""Make the page of a study: one HTML file with its headline, models and differences."""

from kdq.workflow.job import HOME, check_code, running

with running(snakemake.log[0]) as log:
    from pathlib import Path

    from kdq.report import commit, record
    from kdq.report.page import assets, document, sources

    job, source = snakemake.params.job, snakemake.input
    check_code(job["code"], "scripts/page.py")
    parts = assets.read()
    assets.check(parts, job["assets"])
    study = Path(snakemake.output.page).parent.name
    document.write(snakemake.output.page, sources.read(study, source, job), parts, commit.describe(HOME))
    record.write(snakemake.output.record, job, snakemake.params.study, source, snakemake.output)
    log(f"{len(source.metrics):,} cells")
