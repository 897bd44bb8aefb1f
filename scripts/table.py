"""Collect the metrics of all cells in one table, with the summary over seeds and the table of layers."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.report import record
    from kdq.report.tables import cells as table
    from kdq.report.tables import layers, summary

    job = snakemake.params.job
    check_code(job["code"], "scripts/table.py")
    cells = [table.read_metrics(path) for path in snakemake.input.metrics]
    rows = table.rows(cells, job["kinds"], job["dkd_grid"])
    table.write(snakemake.output.table, table.COLUMNS, rows)
    table.write(snakemake.output.summary, summary.COLUMNS, summary.summarize(rows))
    table.write(snakemake.output.layers, layers.COLUMNS, layers.rows(cells))
    record.write(snakemake.output.record, job, snakemake.input, snakemake.output)
    log(f"{len(rows):,} cells")
