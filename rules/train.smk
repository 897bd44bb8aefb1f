rule root:
    input:
        data=data_file,
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
    script:
        "../scripts/train_root.py"


rule distill:
    input:
        data=data_file,
        parent=parent_model,
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
    script:
        "../scripts/distill.py"
