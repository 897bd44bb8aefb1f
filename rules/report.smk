from functools import partial

shown = partial(report, category="Tables")


# take seconds: on a cluster they run on Snakemake's machine
localrules:
    table,
    compare,
    sequences,
    sensitivities,
    deployment,
    page,
    plot,


rule table:
    input:
        metrics=PLAN.files_of_cells("table"),
        histories=lambda wildcards: PLAN.report.histories(),
    output:
        table=shown(f"{REPORT}/table.csv", caption="../docs/report/table.rst", labels={"table": "every cell"}),
        summary=shown(f"{REPORT}/summary.csv", caption="../docs/report/summary.rst", labels={"table": "over seeds"}),
        layers=shown(
            f"{REPORT}/layers.csv", caption="../docs/report/layers.rst", labels={"table": "every quantized layer"}
        ),
        record=f"{REPORT}/table.json",
    log:
        f"logs/table/{STUDY.name}.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=PLAN.table_job("table"),
        study=PLAN.source,
    message:
        "Collecting the metrics of all cells"
    shell:
        PLAN.command(
            "scripts/table.py",
            lists="metrics histories",
            output="table summary layers record",
            unrecorded="study",
        )


rule compare:
    input:
        table=f"{REPORT}/table.csv",
        data=lambda wildcards: PLAN.report.data_files(),
        predictions=PLAN.files_of_cells("compare"),
    output:
        comparisons=shown(
            f"{REPORT}/comparisons.csv",
            caption="../docs/report/comparisons_table.rst",
            labels={"table": "differences"},
        ),
        record=f"{REPORT}/comparisons.json",
    log:
        f"logs/compare/{STUDY.name}.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=PLAN.table_job("compare"),
        study=PLAN.source,
    message:
        "Comparing recipes over seeds and over test images"
    shell:
        PLAN.command(
            "scripts/compare.py",
            input="table",
            lists="data predictions",
            output="comparisons record",
            unrecorded="study",
        )


rule sequences:
    input:
        table=f"{REPORT}/table.csv",
        data=lambda wildcards: PLAN.report.data_files(),
        predictions=PLAN.files_of_cells("sequences"),
    output:
        sequences=shown(
            f"{REPORT}/sequences.csv",
            caption="../docs/report/sequences_table.rst",
            labels={"table": "sequences of stages"},
        ),
        record=f"{REPORT}/sequences.json",
    log:
        f"logs/sequences/{STUDY.name}.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=PLAN.table_job("sequences"),
        study=PLAN.source,
    message:
        "Comparing sequences of stages at each number of bits"
    shell:
        PLAN.command(
            "scripts/sequences.py",
            input="table",
            lists="data predictions",
            output="sequences record",
            unrecorded="study",
        )


rule sensitivities:
    input:
        sensitivities=PLAN.files_of_cells("sensitivities"),
    output:
        table=shown(
            f"{REPORT}/sensitivity.csv",
            caption="../docs/report/sensitivities.rst",
            labels={"table": "layers quantized alone"},
        ),
        record=f"{REPORT}/sensitivity.json",
    log:
        f"logs/sensitivities/{STUDY.name}.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=PLAN.table_job("sensitivities"),
        study=PLAN.source,
    message:
        "Collecting the sensitivities of all measured networks' layers"
    shell:
        PLAN.command("scripts/sensitivities.py", lists="sensitivities", output="table record", unrecorded="study")


rule deployment:
    input:
        table=f"{REPORT}/table.csv",
        latencies=PLAN.files_of_cells("deployment"),
    output:
        deployment=shown(
            f"{REPORT}/deployment.csv", caption="../docs/report/deployment.rst", labels={"table": "deployment"}
        ),
        record=f"{REPORT}/deployment.json",
    log:
        f"logs/deployment/{STUDY.name}.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=PLAN.table_job("deployment"),
        study=PLAN.source,
    message:
        "Collecting the speed and size of all ONNX files"
    shell:
        PLAN.command(
            "scripts/deployment.py",
            input="table",
            lists="latencies",
            output="deployment record",
            unrecorded="study",
        )


rule page:
    input:
        tables=lambda wildcards: PLAN.report.tables("page"),
        data=lambda wildcards: PLAN.report.data_files(),
        metrics=PLAN.files_of_cells("table"),
        histories=lambda wildcards: PLAN.report.histories(),
        predictions=PLAN.files_of_cells("compare"),
    output:
        page=report(
            f"{REPORT}/index.html",
            caption="../docs/report/page.rst",
            category="Explore",
            labels={"page": "the study on one page"},
        ),
        record=f"{REPORT}/index.json",
    log:
        f"logs/page/{STUDY.name}.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=PLAN.table_job("page"),
        study=PLAN.source,
    message:
        "Making the page of the study"
    shell:
        PLAN.command(
            "scripts/page.py",
            lists="tables data metrics histories predictions",
            output="page record",
            unrecorded="study",
        )


rule plot:
    input:
        files=lambda wildcards: PLAN.report.figure_inputs(wildcards.figure, wildcards.dataset),
    output:
        png=report(
            f"{REPORT}/figures/{{dataset}}/{{figure}}.png",
            caption="../docs/report/figure.rst",
            category="Figures",
            subcategory="{dataset}",
            labels=lambda wildcards: {"figure": FIGURES[wildcards.figure].label},
        ),
        svg=f"{REPORT}/figures/{{dataset}}/{{figure}}.svg",
        record=f"{REPORT}/figures/{{dataset}}/{{figure}}.json",
    log:
        f"logs/plot/{STUDY.name}/{{dataset}}/{{figure}}.log",
    wildcard_constraints:
        figure="|".join(FIGURES),
    conda:
        "../envs/kdq.yaml"
    params:
        job=lambda wildcards: or_stop(PLAN.report.figure_job, wildcards.figure),
        study=PLAN.source,
        caption=lambda wildcards: FIGURES[wildcards.figure].caption,
    message:
        "Drawing {wildcards.dataset}: {wildcards.figure}"
    shell:
        PLAN.command(
            "scripts/plot.py", lists="files", output="png svg record", unrecorded="study", wildcards="dataset figure"
        )
