"""Collect what the layers of all measured networks cost alone in one table."""

from kdq.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.report import sensitivities, table

    check_code(snakemake.params.job["code"], "scripts/sensitivities.py")
    rows = sensitivities.rows(snakemake.input.sensitivities)
    table.write(snakemake.output.table, sensitivities.COLUMNS, rows, sensitivities.NUMBER)
    log(f"{len(rows):,} rows")
