"""Draw training loss and validation accuracy after each epoch."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.report import record
    from kdq.report.figures import curves, style, training_curves

    job = snakemake.params.job
    check_code(job["code"], "scripts/plot_training_curves.py")
    histories = curves.read_grouped(snakemake.input.histories, job["recipes"])
    figure = training_curves.draw(histories, job["quantized"], snakemake.wildcards.dataset)
    style.save(figure, snakemake.output.png, snakemake.output.svg)
    record.write(snakemake.output.record, job, snakemake.input, snakemake.output)
