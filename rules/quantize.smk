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
    params:
        job=job_of_stage("scripts/quantize.py"),
    message:
        "Quantizing {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}/{wildcards.stage}"
    shell:
        command(
            "scripts/quantize.py",
            input="data parent sensitivity",
            output="model",
            wildcards="dataset seed parent stage",
        )
