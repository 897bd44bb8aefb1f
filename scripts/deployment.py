"""Collect the speed and size of all models' ONNX files in one table."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.report import latency, record
    from kdq.report.tables import cells, deployment

    job, source = snakemake.params.job, snakemake.input
    check_code(job["code"], "scripts/deployment.py")
    record.check(source.table)
    table = deployment.rows([latency.read(path) for path in source.latencies], cells.SCHEMA.read(source.table))
    deployment.SCHEMA.write(snakemake.output.deployment, table)
    record.write(snakemake.output.record, job, snakemake.params.study, source, snakemake.output)
    log(f"{len(table):,} rows")
    for line in deployment.machines(table):
        log(line)
