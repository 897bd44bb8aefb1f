"""Compare sequences of stages: which wins at which bits, and quantized teachers with quantized students."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.provenance.place import check_data
    from kdq.report import answers, record
    from kdq.report.tables import cells, sequences

    job, source = snakemake.params.job, snakemake.input
    check_code(job["code"], "scripts/sequences.py")
    record.check(source.table)
    [check_data(path) for path in source.data]
    table, correct = cells.SCHEMA.read(source.table), answers.read(source.data, source.predictions)
    answers.check_rows(source.table, table, correct)
    rows = sequences.rows(table, job["kinds"], job["epochs"], correct)
    sequences.SCHEMA.write(snakemake.output.sequences, rows)
    record.write(snakemake.output.record, job, snakemake.params.study, source, snakemake.output)
    log(f"{len(rows):,} comparisons")
