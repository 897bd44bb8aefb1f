# seconds: on a cluster it runs where snakemake runs
localrules:
    share_root,


rule root:
    input:
        data=DATA_FILE,
        imported=imported_files,
    output:
        model="results/{dataset}/seed={seed}/{stage}/model.safetensors",
        history="results/{dataset}/seed={seed}/{stage}/history.csv",
    log:
        "logs/root/{dataset}/seed={seed}/{stage}.log",
    wildcard_constraints:
        stage=f"(?![^/]*,seed=){stages_of('root')}",
    conda:
        "../envs/kdq.yaml"
    threads: STUDY.config.threads
    resources:
        gpu=gpus_of("root"),
        mem_mb=memory(needs_of_root),
        runtime=minutes(needs_of_root),
    params:
        job=job_of_stage("scripts/train_root.py"),
    message:
        "Making the root of {wildcards.dataset} seed {wildcards.seed}: {wildcards.stage}"
    shell:
        command("scripts/train_root.py", input="data", output="model history", wildcards="dataset seed stage")


# Under every seed the root of one: a copy, since Snakemake touches what a job made and with a hard link the original.
rule share_root:
    input:
        "results/{dataset}/seed={shared}/{root}{rest}/{file}",
    output:
        "results/{dataset}/seed={seed}/{root},seed={shared}{rest}/{file}",
    log:
        "logs/share_root/{dataset}/seed={seed}/{root},seed={shared}{rest}/{file}.log",
    wildcard_constraints:
        root=stages_of("root"),
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
        gpu=gpus_of("teacher_cache"),
        mem_mb=memory(needs_of_cache),
        runtime=minutes(needs_of_cache),
    params:
        job=job_of_script("scripts/teacher_cache.py"),
    message:
        "Caching logits for {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}, all crops and flips"
    shell:
        command("scripts/teacher_cache.py", input="data teacher", output="views", wildcards="crop flip precision")


rule distill:
    input:
        data=DATA_FILE,
        parent=f"{PARENT}/model.safetensors",
        views=teacher_views,
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
    resources:
        gpu=gpus_of("distill"),
        mem_mb=memory(needs_of_distill),
        runtime=minutes(needs_of_distill),
    params:
        job=job_of_stage("scripts/distill.py"),
        beside=students_beside,  # derived from the output, so no part of what is recorded
    message:
        "Distilling {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}/{wildcards.stage}"
    shell:
        command(
            "scripts/distill.py",
            input="data parent views",
            output="model history",
            wildcards="dataset seed parent stage",
        )
        + " --beside {params.beside:q}"


rule retrain:
    input:
        data=DATA_FILE,
        parent=f"{PARENT}/model.safetensors",
        teacher=teacher_model,
    output:
        model="results/{dataset}/seed={seed}/{parent}/{stage}/model.safetensors",
        history="results/{dataset}/seed={seed}/{parent}/{stage}/history.csv",
    log:
        "logs/retrain/{dataset}/seed={seed}/{parent}/{stage}.log",
    wildcard_constraints:
        stage=stages_of("retrain"),
    conda:
        "../envs/kdq.yaml"
    threads: STUDY.config.threads
    resources:
        gpu=gpus_of("retrain"),
        mem_mb=memory(needs_of_retrain),
        runtime=minutes(needs_of_retrain),
    params:
        job=job_of_stage("scripts/retrain.py"),
    message:
        "Retraining {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}/{wildcards.stage}"
    shell:
        command(
            "scripts/retrain.py",
            input="data parent teacher",
            output="model history",
            wildcards="dataset seed parent stage",
        )
