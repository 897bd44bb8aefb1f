# takes seconds: on a cluster it runs on Snakemake's machine
localrules:
    archive,


rule sensitivity:
    input:
        data=DATA_FILE,
        parent=f"{PARENT}/model.safetensors",
    output:
        sensitivity="results/{dataset}/seed={seed}/{parent}/{stage}/sensitivity.csv",
    log:
        "logs/sensitivity/{dataset}/seed={seed}/{parent}/{stage}.log",
    wildcard_constraints:
        stage=PLAN.stages_of("quantize"),
    conda:
        "../envs/kdq.yaml"
    threads: STUDY.config.threads
    resources:
        mem_mb=ESTIMATES.memory("sensitivity"),
        runtime=ESTIMATES.minutes("sensitivity"),
    params:
        job=PLAN.measurement_job,
    message:
        "Measuring {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}, each layer alone by {wildcards.stage}"
    shell:
        PLAN.command("scripts/sensitivity.py", input="data parent", output="sensitivity")


rule quantize:
    input:
        data=DATA_FILE,
        parent=f"{PARENT}/model.safetensors",
        sensitivity=PLAN.input("sensitivity"),
    output:
        model="results/{dataset}/seed={seed}/{parent}/{stage}/model.safetensors",
    log:
        "logs/quantize/{dataset}/seed={seed}/{parent}/{stage}.log",
    wildcard_constraints:
        stage=PLAN.stages_of("quantize"),
    conda:
        "../envs/kdq.yaml"
    threads: STUDY.config.threads
    resources:
        mem_mb=ESTIMATES.memory("quantize"),
        runtime=ESTIMATES.minutes("quantize"),
    params:
        job=PLAN.job_of_stage("scripts/quantize.py"),
    message:
        "Quantizing {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}/{wildcards.stage}"
    shell:
        PLAN.command("scripts/quantize.py", input="data parent sensitivity", output="model")


rule archive:
    input:
        model=f"{PARENT}/model.safetensors",
    output:
        archive=f"{PARENT}/model.archive.safetensors",
    log:
        "logs/archive/{dataset}/seed={seed}/{parent}.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=PLAN.script_job("scripts/archive.py"),
    message:
        "Packing {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}"
    shell:
        PLAN.command("scripts/archive.py", input="model", output="archive")
