"""Draw test accuracy over DKD's two weights."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.report import dkd_choice, record
    from kdq.report.figures import dkd_heatmap, style
    from kdq.report.tables import cells as table

    job = snakemake.params.job
    check_code(job["code"], "scripts/plot_dkd_heatmap.py")
    cells = dkd_choice.by_weights([table.read_metrics(path) for path in snakemake.input.metrics])
    figure = dkd_heatmap.draw(cells, snakemake.wildcards.dataset)
    style.save(figure, snakemake.output.png, snakemake.output.svg)
    record.write(snakemake.output.record, job, snakemake.input, snakemake.output)
