rule root:
    input:
        data=DATA_FILE,
    output:
        model="results/{dataset}/seed={seed}/{stage}/model.safetensors",
        history="results/{dataset}/seed={seed}/{stage}/history.csv",
    log:
        "logs/root/{dataset}/seed={seed}/{stage}.log",
    wildcard_constraints:
        stage=stages_of("root"),
    conda:
        "../envs/kdq.yaml"
    threads: STUDY.config.threads
    params:
        job=job_of_stage("scripts/train_root.py"),
    message:
        "Training {wildcards.dataset} seed {wildcards.seed}: {wildcards.stage}"
    shell:
        command("scripts/train_root.py", input="data", output="model history", wildcards="dataset seed stage")


rule distill:
    input:
        data=DATA_FILE,
        parent=f"{PARENT}/model.safetensors",
    output:
        model="results/{dataset}/seed={seed}/{parent}/{stage}/model.safetensors",
        history="results/{dataset}/seed={seed}/{parent}/{stage}/history.csv",
    log:
        "logs/distill/{dataset}/seed={seed}/{parent}/{stage}.log",
    wildcard_constraints:
        stage=stages_of("distill"),
    conda:
        "../envs/kdq.yaml"
    threads: STUDY.config.threads
    params:
        job=job_of_stage("scripts/distill.py"),
    message:
        "Distilling {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}/{wildcards.stage}"
    shell:
        command(
            "scripts/distill.py",
            input="data parent",
            output="model history",
            wildcards="dataset seed parent stage",
        )
