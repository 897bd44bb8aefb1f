"""Collect the metrics of all cells in one table, and the summary over seeds."""

from kdq.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.report import summary, table

    job = snakemake.params.job
    check_code(job["code"], "scripts/table.py")
    rows = table.rows([table.read_metrics(path) for path in snakemake.input.metrics], job["kinds"])
    table.write(snakemake.output.table, table.COLUMNS, rows)
    table.write(snakemake.output.summary, summary.COLUMNS, summary.summarize(rows))
    log(f"{len(rows):,} cells")
