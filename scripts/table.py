"""Collect the metrics of all cells in one table, with the summary over seeds and the table of layers."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.provenance.mixtures import mixtures
    from kdq.report import metrics, operations, record
    from kdq.report.tables import cells, layers, summary

    job, output = snakemake.params.job, snakemake.output
    check_code(job["code"], "scripts/table.py")
    of_cells = [metrics.read(path) for path in snakemake.input.metrics]
    table = cells.rows(of_cells, job["kinds"], job["dkd_grid"], operations.read(snakemake.input.histories))
    cells.SCHEMA.write(output.table, table)
    summary.SCHEMA.write(output.summary, summary.summarize(table))
    layers.SCHEMA.write(output.layers, layers.rows(of_cells))
    record.write(output.record, job, snakemake.params.study, snakemake.input, output)
    log(f"{len(table):,} cells")
    for line in mixtures(of_cells):
        log(line)
