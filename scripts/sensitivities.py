"""Collect the sensitivities of all measured networks' layers in one table."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.report import record
    from kdq.report.tables import sensitivities

    job = snakemake.params.job
    check_code(job["code"], "scripts/sensitivities.py")
    rows = sensitivities.rows(snakemake.input.sensitivities)
    sensitivities.SCHEMA.write(snakemake.output.table, rows)
    record.write(snakemake.output.record, job, snakemake.params.study, snakemake.input, snakemake.output)
    log(f"{len(rows):,} rows")
