# seconds: on a cluster it runs where snakemake runs
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
        stage=stages_of("quantize"),
    conda:
        "../envs/kdq.yaml"
    threads: STUDY.config.threads
    resources:
        mem_mb=memory(needs_of_sensitivity),
        runtime=minutes(needs_of_sensitivity),
    params:
        job=lambda wildcards: measurement_job(wildcards.stage),
    message:
        "Measuring {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}, each layer alone by {wildcards.stage}"
    shell:
        command("scripts/sensitivity.py", input="data parent", output="sensitivity", wildcards="seed")


rule quantize:
    input:
        data=DATA_FILE,
        parent=f"{PARENT}/model.safetensors",
        sensitivity=sensitivity_table,
    output:
        model="results/{dataset}/seed={seed}/{parent}/{stage}/model.safetensors",
    log:
        "logs/quantize/{dataset}/seed={seed}/{parent}/{stage}.log",
    wildcard_constraints:
        stage=stages_of("quantize"),
    conda:
        "../envs/kdq.yaml"
    threads: STUDY.config.threads
    resources:
        mem_mb=memory(needs_of_quantize),
        runtime=minutes(needs_of_quantize),
    params:
        job=lambda wildcards: quantize_job(wildcards.stage),
    message:
        "Quantizing {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}/{wildcards.stage}"
    shell:
        command("scripts/quantize.py", input="data parent sensitivity", output="model")


# Where a file has such a rule, with no wildcard, it is preferred. Its params are those of the rule above (what is derived
# from outputs is not recorded), so that the next plan, without it, finds nothing that has changed.
for TOGETHER in quantized_together():

    rule:
        name:
            f"quantize {TOGETHER.dataset} seed={TOGETHER.seed}: {TOGETHER.recipe}"
        input:
            data=DATA_FILE.format(dataset=TOGETHER.dataset),
            parent=f"{PARENT}/model.safetensors".format(**vars(TOGETHER)),
        output:
            **TOGETHER.models,
        log:
            TOGETHER.logs,
        conda:
            "../envs/kdq.yaml"
        threads: STUDY.config.threads
        params:
            job=quantize_job(next(iter(TOGETHER.stages.values()))),
            models=lambda wildcards, output: [f"{name}={path}" for name, path in output.items()],
        message:
            f"Quantizing {TOGETHER.dataset} seed {TOGETHER.seed}: {TOGETHER.recipe}"
        shell:
            command("scripts/quantize.py", input="data parent") + " --output {params.models:q}"


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
        job=job_of_script("scripts/archive.py"),
    message:
        "Packing {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}"
    shell:
        command("scripts/archive.py", input="model", output="archive")
