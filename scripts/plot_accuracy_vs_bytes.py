"""Draw test accuracy against the size of the file."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.report import record
    from kdq.report.figures import accuracy_vs_bytes, style
    from kdq.report.tables import cells as table

    job = snakemake.params.job
    check_code(job["code"], "scripts/plot_accuracy_vs_bytes.py")
    figure = accuracy_vs_bytes.draw(table.read(snakemake.input.summary), snakemake.wildcards.dataset)
    style.save(figure, snakemake.output.png, snakemake.output.svg)
    record.write(snakemake.output.record, job, snakemake.input, snakemake.output)
