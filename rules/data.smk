rule prepare_data:
    output:
        data="results/{dataset}/data/split={split_seed}.safetensors",
    log:
        "logs/prepare_data/{dataset}/split={split_seed}.log",
    conda:
        "../envs/kdq.yaml"
    resources:
        mem_mb=ESTIMATES.memory("data"),
        runtime=ESTIMATES.minutes("data"),
    params:
        job=lambda wildcards: PLAN.data_job(wildcards.dataset),
        places=PLAN.data_places,  # of the output too, so no part of what is recorded
    message:
        "Preparing {wildcards.dataset}, split {wildcards.split_seed}"
    shell:
        PLAN.command("scripts/prepare_data.py", output="data", wildcards="dataset split_seed", unrecorded="places")
