"""Compare sequences of stages: which wins at which bits, and quantized teachers with quantized students."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.report import record
    from kdq.report.tables import cells as table
    from kdq.report.tables import comparisons, sequences

    job = snakemake.params.job
    check_code(job["code"], "scripts/sequences.py")
    correct = comparisons.read_correct(snakemake.input.data, snakemake.input.predictions)
    rows = sequences.rows(table.read(snakemake.input.table), job["kinds"], job["epochs"], correct)
    table.write(snakemake.output.sequences, sequences.COLUMNS, rows)
    record.write(snakemake.output.record, job, snakemake.input, snakemake.output)
    log(f"{len(rows):,} comparisons")
