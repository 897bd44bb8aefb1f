rule quantize:
    input:
        data=DATA_FILE,
        parent=f"{PARENT}/model.safetensors",
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
        job=job_of_stage("scripts/quantize.py"),
    message:
        "Quantizing {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}/{wildcards.stage}"
    shell:
        command("scripts/quantize.py", input="data parent", output="model", wildcards="dataset seed parent stage")
