rule evaluate_root:
    input:
        data=DATA_FILE,
        model="results/{dataset}/seed={seed}/{stage}/model.safetensors",
    output:
        metrics="results/{dataset}/seed={seed}/{stage}/metrics.json",
        predictions="results/{dataset}/seed={seed}/{stage}/predictions.safetensors",
    log:
        "logs/evaluate/{dataset}/seed={seed}/{stage}.log",
    conda:
        "../envs/kdq.yaml"
    threads: STUDY.config.threads
    resources:
        mem_mb=ESTIMATES.memory("evaluate"),
        runtime=ESTIMATES.minutes("evaluate"),
    params:
        job=PLAN.script_job("scripts/evaluate.py"),
    message:
        "Evaluating {wildcards.dataset} seed {wildcards.seed}: {wildcards.stage}"
    shell:
        PLAN.command("scripts/evaluate.py", input="data model", output="metrics predictions")


rule evaluate:
    input:
        data=DATA_FILE,
        model=f"{PARENT}/{{stage}}/model.safetensors",
        parent=f"{PARENT}/predictions.safetensors",
    output:
        metrics="results/{dataset}/seed={seed}/{parent}/{stage}/metrics.json",
        predictions="results/{dataset}/seed={seed}/{parent}/{stage}/predictions.safetensors",
    log:
        "logs/evaluate/{dataset}/seed={seed}/{parent}/{stage}.log",
    conda:
        "../envs/kdq.yaml"
    threads: STUDY.config.threads
    resources:
        mem_mb=ESTIMATES.memory("evaluate"),
        runtime=ESTIMATES.minutes("evaluate"),
    params:
        job=PLAN.script_job("scripts/evaluate.py"),
    message:
        "Evaluating {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}/{wildcards.stage}"
    shell:
        PLAN.command("scripts/evaluate.py", input="data model parent", output="metrics predictions")
