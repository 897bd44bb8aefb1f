"""Draw what each layer costs alone at each bit-width."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.report import record
    from kdq.report.figures import sensitivity, style
    from kdq.report.tables import cells as table

    job = snakemake.params.job
    check_code(job["code"], "scripts/plot_sensitivity.py")
    figure = sensitivity.draw(table.read(snakemake.input.sensitivities), snakemake.wildcards.dataset)
    style.save(figure, snakemake.output.png, snakemake.output.svg)
    record.write(snakemake.output.record, job, snakemake.input, snakemake.output)
