"""Compare recipes: differences of test accuracy, over seeds and over test images."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.provenance.place import check_data
    from kdq.report import answers, record
    from kdq.report.tables import cells, comparisons

    job, source = snakemake.params.job, snakemake.input
    check_code(job["code"], "scripts/compare.py")
    record.check(source.table)
    [check_data(path) for path in source.data]
    table, correct = cells.SCHEMA.read(source.table), answers.read(source.data, source.predictions)
    answers.check_rows(source.table, table, correct)
    rows = comparisons.rows(table, job["kinds"], correct)
    comparisons.SCHEMA.write(snakemake.output.comparisons, rows)
    record.write(snakemake.output.record, job, snakemake.params.study, source, snakemake.output)
    log(f"{len(rows):,} comparisons")
