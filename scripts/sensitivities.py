"""Collect what the layers of all measured networks cost alone in one table."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.report import record
    from kdq.report.tables import cells as table
    from kdq.report.tables import sensitivities

    job = snakemake.params.job
    check_code(job["code"], "scripts/sensitivities.py")
    rows = sensitivities.rows(snakemake.input.sensitivities)
    table.write(snakemake.output.table, sensitivities.COLUMNS, rows, sensitivities.NUMBER)
    record.write(snakemake.output.record, job, snakemake.input, snakemake.output)
    log(f"{len(rows):,} rows")
