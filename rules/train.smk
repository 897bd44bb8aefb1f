# takes seconds: on a cluster it runs on Snakemake's machine
localrules:
    share_root,


rule root:
    input:
        data=DATA_FILE,
    output:
        model="results/{dataset}/seed={seed}/{stage}/model.safetensors",
        history="results/{dataset}/seed={seed}/{stage}/history.csv",
    log:
        "logs/root/{dataset}/seed={seed}/{stage}.log",
    wildcard_constraints:
        stage=f"(?![^/]*,seed=){PLAN.stages_of('root')}",
    conda:
        "../envs/kdq.yaml"
    threads: STUDY.config.threads
    resources:
        gpu=ESTIMATES.gpus("root"),
        mem_mb=ESTIMATES.memory("root"),
        runtime=ESTIMATES.minutes("root"),
    params:
        job=PLAN.root_job,
        resident=PLAN.resident,
    message:
        "Making {wildcards.dataset} seed {wildcards.seed}: {wildcards.stage}"
    shell:
        PLAN.command("scripts/train_root.py", input="data", output="model history", unrecorded="resident")


# A root that all seeds share, under each of them: a copy, because Snakemake touches outputs and, through a hard link, the original.
rule share_root:
    input:
        "results/{dataset}/seed={shared}/{root}{rest}/{file}",
    output:
        "results/{dataset}/seed={seed}/{root},seed={shared}{rest}/{file}",
    log:
        "logs/share_root/{dataset}/seed={seed}/{root},seed={shared}{rest}/{file}.log",
    wildcard_constraints:
        root=PLAN.stages_of("root"),
        shared=r"\d+",
        rest="(,[^/]+)?",
        file=r"model\.safetensors|history\.csv",
    conda:
        "../envs/kdq.yaml"
    message:
        "Sharing {wildcards.dataset} seed {wildcards.shared}: {wildcards.root}{wildcards.rest} with seed {wildcards.seed}"
    shell:
        "cp {input:q} {output:q} 2> {log:q}"


rule teacher_cache:
    input:
        data=DATA_FILE,
        teacher=f"{PARENT}/model.safetensors",
    output:
        views=f"{PARENT}/views,crop={{crop}},flip={{flip}},precision={{precision}}.safetensors",
    log:
        "logs/teacher_cache/{dataset}/seed={seed}/{parent}/views,crop={crop},flip={flip},precision={precision}.log",
    wildcard_constraints:
        crop=r"\d+",
        flip="true|false",
        precision="auto|bfloat16|float32",
    conda:
        "../envs/kdq.yaml"
    threads: STUDY.config.threads
    resources:
        gpu=ESTIMATES.gpus("teacher_cache"),
        mem_mb=ESTIMATES.memory("teacher_cache"),
        runtime=ESTIMATES.minutes("teacher_cache"),
    params:
        job=PLAN.script_job("scripts/teacher_cache.py"),
    message:
        "Caching logits for {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}, all crops and flips"
    shell:
        PLAN.command("scripts/teacher_cache.py", input="data teacher", output="views", wildcards="crop flip precision")


rule distill:
    input:
        data=DATA_FILE,
        parent=f"{PARENT}/model.safetensors",
        views=PLAN.input("views"),
    output:
        model="results/{dataset}/seed={seed}/{parent}/{stage}/model.safetensors",
        history="results/{dataset}/seed={seed}/{parent}/{stage}/history.csv",
    log:
        "logs/distill/{dataset}/seed={seed}/{parent}/{stage}.log",
    wildcard_constraints:
        stage=PLAN.stages_of("distill"),
    conda:
        "../envs/kdq.yaml"
    threads: STUDY.config.threads
    resources:
        gpu=ESTIMATES.gpus("distill"),
        mem_mb=ESTIMATES.memory("distill"),
        runtime=ESTIMATES.minutes("distill"),
    params:
        job=PLAN.job_of_stage("scripts/distill.py"),
        resident=PLAN.resident,
        beside=PLAN.students_beside,  # derived from the output, so no part of what is recorded
    message:
        "Distilling {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}/{wildcards.stage}"
    shell:
        PLAN.command(
            "scripts/distill.py", input="data parent views", output="model history", unrecorded="beside resident"
        )


rule retrain:
    input:
        data=DATA_FILE,
        parent=f"{PARENT}/model.safetensors",
        teacher=PLAN.input("teacher"),
        ancestor=PLAN.input("ancestor"),
    output:
        model="results/{dataset}/seed={seed}/{parent}/{stage}/model.safetensors",
        history="results/{dataset}/seed={seed}/{parent}/{stage}/history.csv",
    log:
        "logs/retrain/{dataset}/seed={seed}/{parent}/{stage}.log",
    wildcard_constraints:
        stage=PLAN.stages_of("retrain", "tune", "prune"),
    conda:
        "../envs/kdq.yaml"
    threads: STUDY.config.threads
    resources:
        gpu=ESTIMATES.gpus("retrain"),
        mem_mb=ESTIMATES.memory("retrain"),
        runtime=ESTIMATES.minutes("retrain"),
    params:
        job=PLAN.job_of_stage("scripts/retrain.py"),
        resident=PLAN.resident,
    message:
        "Retraining {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}/{wildcards.stage}"
    shell:
        PLAN.command(
            "scripts/retrain.py",
            input="data parent teacher ancestor",
            output="model history",
            unrecorded="resident",
        )
