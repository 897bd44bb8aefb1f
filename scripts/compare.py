"""Compare recipes: differences of test accuracy, over seeds and over test images."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.report import record
    from kdq.report.tables import cells as table
    from kdq.report.tables import comparisons

    job = snakemake.params.job
    check_code(job["code"], "scripts/compare.py")
    correct = comparisons.read_correct(snakemake.input.data, snakemake.input.predictions)
    rows = comparisons.rows(table.read(snakemake.input.table), job["kinds"], correct)
    table.write(snakemake.output.comparisons, comparisons.COLUMNS, rows)
    record.write(snakemake.output.record, job, snakemake.input, snakemake.output)
    log(f"{len(rows):,} comparisons")
