"""Draw one figure of a data set."""

import importlib

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.report import record
    from kdq.report.figures import FIGURES, style

    job, dataset = snakemake.params.job, snakemake.wildcards.dataset
    declared = FIGURES[snakemake.wildcards.figure]
    module = importlib.import_module(declared.module)
    check_code(job["code"], *declared.code)
    if declared.table:
        for table in snakemake.input.files:
            record.check(table)
    parameters = {name: job[name] for name in declared.parameters}
    figure = module.draw(module.read(*snakemake.input.files), dataset, **parameters)
    style.save(figure, snakemake.output.png, snakemake.output.svg)
    record.write(snakemake.output.record, job, snakemake.params.study, snakemake.input, snakemake.output)
