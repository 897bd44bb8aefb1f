"""Draw which sequence of stages wins at which bits."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.report import record
    from kdq.report.figures import sequences as sequences_plot
    from kdq.report.figures import style
    from kdq.report.tables import cells as table

    job = snakemake.params.job
    check_code(job["code"], "scripts/plot_sequences.py")
    figure = sequences_plot.draw(table.read(snakemake.input.sequences), snakemake.wildcards.dataset)
    style.save(figure, snakemake.output.png, snakemake.output.svg)
    record.write(snakemake.output.record, job, snakemake.input, snakemake.output)
