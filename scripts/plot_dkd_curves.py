"""Draw validation accuracy after each epoch over DKD's two weights."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.report import record
    from kdq.report.figures import curves, dkd_curves, style

    job = snakemake.params.job
    check_code(job["code"], "scripts/plot_dkd_curves.py")
    histories = curves.read_grouped(snakemake.input.histories, [tuple(point) for point in job["points"]])
    figure = dkd_curves.draw(histories, snakemake.wildcards.dataset)
    style.save(figure, snakemake.output.png, snakemake.output.svg)
    record.write(snakemake.output.record, job, snakemake.input, snakemake.output)
