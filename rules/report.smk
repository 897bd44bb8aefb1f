from functools import partial

shown = partial(report, category="Tables")


# take seconds: on a cluster they run on Snakemake's machine
localrules:
    table,
    compare,
    sequences,
    sensitivities,
    plot,


rule table:
    input:
        metrics=PLAN.files_of_cells("table"),
    output:
        table=shown("results/table.csv", caption="../docs/report/table.rst", labels={"table": "every cell"}),
        summary=shown("results/summary.csv", caption="../docs/report/summary.rst", labels={"table": "over seeds"}),
        layers=shown(
            "results/layers.csv", caption="../docs/report/layers.rst", labels={"table": "every quantized layer"}
        ),
        record="results/table.json",
    log:
        "logs/table.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=PLAN.table_job("table"),
    message:
        "Collecting the metrics of all cells"
    shell:
        PLAN.command("scripts/table.py", lists="metrics", output="table summary layers record")


rule compare:
    input:
        table="results/table.csv",
        data=lambda wildcards: PLAN.report.data_files(),
        predictions=PLAN.files_of_cells("compare"),
    output:
        comparisons=shown(
            "results/comparisons.csv", caption="../docs/report/comparisons_table.rst", labels={"table": "differences"}
        ),
        record="results/comparisons.json",
    log:
        "logs/compare.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=PLAN.table_job("compare"),
    message:
        "Comparing recipes over seeds and over test images"
    shell:
        PLAN.command("scripts/compare.py", input="table", lists="data predictions", output="comparisons record")


rule sequences:
    input:
        table="results/table.csv",
        data=lambda wildcards: PLAN.report.data_files(),
        predictions=PLAN.files_of_cells("sequences"),
    output:
        sequences=shown(
            "results/sequences.csv",
            caption="../docs/report/sequences_table.rst",
            labels={"table": "sequences of stages"},
        ),
        record="results/sequences.json",
    log:
        "logs/sequences.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=PLAN.table_job("sequences"),
    message:
        "Comparing sequences of stages at each number of bits"
    shell:
        PLAN.command("scripts/sequences.py", input="table", lists="data predictions", output="sequences record")


rule sensitivities:
    input:
        sensitivities=PLAN.files_of_cells("sensitivities"),
    output:
        table=shown(
            "results/sensitivity.csv",
            caption="../docs/report/sensitivities.rst",
            labels={"table": "layers quantized alone"},
        ),
        record="results/sensitivity.json",
    log:
        "logs/sensitivities.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=PLAN.table_job("sensitivities"),
    message:
        "Collecting the sensitivities of all measured networks' layers"
    shell:
        PLAN.command("scripts/sensitivities.py", lists="sensitivities", output="table record")


rule plot:
    input:
        files=lambda wildcards: PLAN.report.figure_inputs(wildcards.figure, wildcards.dataset),
    output:
        png=report(
            "results/{dataset}/figures/{figure}.png",
            caption="../docs/report/figure.rst",
            category="Figures",
            subcategory="{dataset}",
            labels=lambda wildcards: {"figure": FIGURES[wildcards.figure].label},
        ),
        svg="results/{dataset}/figures/{figure}.svg",
        record="results/{dataset}/figures/{figure}.json",
    log:
        "logs/plot/{dataset}/{figure}.log",
    wildcard_constraints:
        figure="|".join(FIGURES),
    conda:
        "../envs/kdq.yaml"
    params:
        job=lambda wildcards: or_stop(PLAN.report.figure_job, wildcards.figure),
        caption=lambda wildcards: FIGURES[wildcards.figure].caption,
    message:
        "Drawing {wildcards.dataset}: {wildcards.figure}"
    shell:
        PLAN.command("scripts/plot.py", lists="files", output="png svg record", wildcards="dataset figure")
