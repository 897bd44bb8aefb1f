# seconds each: on a cluster they run where snakemake runs
localrules:
    table,
    compare,
    sequences,
    sensitivities,
    plot_accuracy_vs_bits,
    plot_accuracy_vs_bytes,
    plot_comparisons,
    plot_sequences,
    plot_training_curves,
    plot_dkd_curves,
    plot_dkd_heatmap,
    plot_layer_errors,
    plot_sensitivity,


rule table:
    input:
        metrics=files_of_cells("table"),
    output:
        table=report(
            "results/table.csv",
            caption="../docs/report/table.rst",
            category="Tables",
            labels={"table": "every cell"},
        ),
        summary=report(
            "results/summary.csv",
            caption="../docs/report/summary.rst",
            category="Tables",
            labels={"table": "over seeds"},
        ),
        layers=report(
            "results/layers.csv",
            caption="../docs/report/layers.rst",
            category="Tables",
            labels={"table": "every quantized layer"},
        ),
        record="results/table.json",
    log:
        "logs/table.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=job_of_report("table"),
    message:
        "Collecting the metrics of all cells"
    script:
        "../scripts/table.py"


rule compare:
    input:
        table="results/table.csv",
        data=data_files,
        predictions=files_of_cells("compare"),
    output:
        comparisons=report(
            "results/comparisons.csv",
            caption="../docs/report/comparisons_table.rst",
            category="Tables",
            labels={"table": "differences"},
        ),
        record="results/comparisons.json",
    log:
        "logs/compare.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=job_of_report("compare"),
    message:
        "Comparing recipes over seeds and over test images"
    script:
        "../scripts/compare.py"


rule sequences:
    input:
        table="results/table.csv",
        data=data_files,
        predictions=files_of_cells("sequences"),
    output:
        sequences=report(
            "results/sequences.csv",
            caption="../docs/report/sequences_table.rst",
            category="Tables",
            labels={"table": "sequences of stages"},
        ),
        record="results/sequences.json",
    log:
        "logs/sequences.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=job_of_report("sequences"),
    message:
        "Comparing sequences of stages at each number of bits"
    script:
        "../scripts/sequences.py"


rule sensitivities:
    input:
        sensitivities=files_of_cells("sensitivities"),
    output:
        table=report(
            "results/sensitivity.csv",
            caption="../docs/report/sensitivities.rst",
            category="Tables",
            labels={"table": "layers quantized alone"},
        ),
        record="results/sensitivity.json",
    log:
        "logs/sensitivities.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=job_of_report("sensitivities"),
    message:
        "Collecting what the layers of all measured networks cost alone"
    script:
        "../scripts/sensitivities.py"


rule plot_accuracy_vs_bits:
    input:
        summary="results/summary.csv",
    output:
        png=report(
            "results/{dataset}/figures/accuracy_vs_bits.png",
            caption="../docs/report/accuracy_vs_bits.rst",
            category="Figures",
            subcategory="{dataset}",
            labels={"figure": "accuracy against bits"},
        ),
        svg="results/{dataset}/figures/accuracy_vs_bits.svg",
        record="results/{dataset}/figures/accuracy_vs_bits.json",
    log:
        "logs/plot_accuracy_vs_bits/{dataset}.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=job_of_report("plot_accuracy_vs_bits"),
    message:
        "Drawing {wildcards.dataset}: accuracy against bits"
    script:
        "../scripts/plot_accuracy_vs_bits.py"


rule plot_accuracy_vs_bytes:
    input:
        summary="results/summary.csv",
    output:
        png=report(
            "results/{dataset}/figures/accuracy_vs_bytes.png",
            caption="../docs/report/accuracy_vs_bytes.rst",
            category="Figures",
            subcategory="{dataset}",
            labels={"figure": "accuracy against size"},
        ),
        svg="results/{dataset}/figures/accuracy_vs_bytes.svg",
        record="results/{dataset}/figures/accuracy_vs_bytes.json",
    log:
        "logs/plot_accuracy_vs_bytes/{dataset}.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=job_of_report("plot_accuracy_vs_bytes"),
    message:
        "Drawing {wildcards.dataset}: accuracy against size"
    script:
        "../scripts/plot_accuracy_vs_bytes.py"


rule plot_comparisons:
    input:
        comparisons="results/comparisons.csv",
    output:
        png=report(
            "results/{dataset}/figures/comparisons.png",
            caption="../docs/report/comparisons.rst",
            category="Figures",
            subcategory="{dataset}",
            labels={"figure": "differences between students"},
        ),
        svg="results/{dataset}/figures/comparisons.svg",
        record="results/{dataset}/figures/comparisons.json",
    log:
        "logs/plot_comparisons/{dataset}.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=job_of_report("plot_comparisons"),
    message:
        "Drawing {wildcards.dataset}: differences between students"
    script:
        "../scripts/plot_comparisons.py"


rule plot_sequences:
    input:
        sequences="results/sequences.csv",
    output:
        png=report(
            "results/{dataset}/figures/sequences.png",
            caption="../docs/report/sequences.rst",
            category="Figures",
            subcategory="{dataset}",
            labels={"figure": "sequences of stages"},
        ),
        svg="results/{dataset}/figures/sequences.svg",
        record="results/{dataset}/figures/sequences.json",
    log:
        "logs/plot_sequences/{dataset}.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=job_of_report("plot_sequences"),
    message:
        "Drawing {wildcards.dataset}: sequences of stages"
    script:
        "../scripts/plot_sequences.py"


rule plot_training_curves:
    input:
        histories=files_of_cells("plot_training_curves"),
    output:
        png=report(
            "results/{dataset}/figures/training_curves.png",
            caption="../docs/report/training_curves.rst",
            category="Figures",
            subcategory="{dataset}",
            labels={"figure": "training"},
        ),
        svg="results/{dataset}/figures/training_curves.svg",
        record="results/{dataset}/figures/training_curves.json",
    log:
        "logs/plot_training_curves/{dataset}.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=job_of_report("plot_training_curves"),
    message:
        "Drawing {wildcards.dataset}: training"
    script:
        "../scripts/plot_training_curves.py"


rule plot_dkd_curves:
    input:
        histories=files_of_cells("plot_dkd_curves"),
    output:
        png=report(
            "results/{dataset}/figures/dkd_curves.png",
            caption="../docs/report/dkd_curves.rst",
            category="Figures",
            subcategory="{dataset}",
            labels={"figure": "DKD over its weights, by epoch"},
        ),
        svg="results/{dataset}/figures/dkd_curves.svg",
        record="results/{dataset}/figures/dkd_curves.json",
    log:
        "logs/plot_dkd_curves/{dataset}.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=job_of_report("plot_dkd_curves"),
    message:
        "Drawing {wildcards.dataset}: DKD over its weights, by epoch"
    script:
        "../scripts/plot_dkd_curves.py"


rule plot_dkd_heatmap:
    input:
        metrics=files_of_cells("plot_dkd_heatmap"),
    output:
        png=report(
            "results/{dataset}/figures/dkd_heatmap.png",
            caption="../docs/report/dkd_heatmap.rst",
            category="Figures",
            subcategory="{dataset}",
            labels={"figure": "DKD over its weights"},
        ),
        svg="results/{dataset}/figures/dkd_heatmap.svg",
        record="results/{dataset}/figures/dkd_heatmap.json",
    log:
        "logs/plot_dkd_heatmap/{dataset}.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=job_of_report("plot_dkd_heatmap"),
    message:
        "Drawing {wildcards.dataset}: DKD over its weights"
    script:
        "../scripts/plot_dkd_heatmap.py"


rule plot_layer_errors:
    input:
        layers="results/layers.csv",
    output:
        png=report(
            "results/{dataset}/figures/layer_errors.png",
            caption="../docs/report/layer_errors.rst",
            category="Figures",
            subcategory="{dataset}",
            labels={"figure": "errors of the layers"},
        ),
        svg="results/{dataset}/figures/layer_errors.svg",
        record="results/{dataset}/figures/layer_errors.json",
    log:
        "logs/plot_layer_errors/{dataset}.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=job_of_report("plot_layer_errors"),
    message:
        "Drawing {wildcards.dataset}: errors of the layers"
    script:
        "../scripts/plot_layer_errors.py"


rule plot_sensitivity:
    input:
        sensitivities="results/sensitivity.csv",
    output:
        png=report(
            "results/{dataset}/figures/sensitivity.png",
            caption="../docs/report/sensitivity.rst",
            category="Figures",
            subcategory="{dataset}",
            labels={"figure": "layers quantized alone"},
        ),
        svg="results/{dataset}/figures/sensitivity.svg",
        record="results/{dataset}/figures/sensitivity.json",
    log:
        "logs/plot_sensitivity/{dataset}.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=job_of_report("plot_sensitivity"),
    message:
        "Drawing {wildcards.dataset}: layers quantized alone"
    script:
        "../scripts/plot_sensitivity.py"
