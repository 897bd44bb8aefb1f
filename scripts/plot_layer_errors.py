"""Draw the relative output error of each quantized layer."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.report import record
    from kdq.report.figures import layer_errors, style
    from kdq.report.tables import cells as table

    job = snakemake.params.job
    check_code(job["code"], "scripts/plot_layer_errors.py")
    figure = layer_errors.draw(table.read(snakemake.input.layers), snakemake.wildcards.dataset)
    style.save(figure, snakemake.output.png, snakemake.output.svg)
    record.write(snakemake.output.record, job, snakemake.input, snakemake.output)
