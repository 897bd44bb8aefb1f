rule evaluate:
    input:
        unpack(relatives_predictions),
        data=data_file,
        model="results/{dataset}/seed={seed}/{recipe}/model.safetensors",
    output:
        metrics="results/{dataset}/seed={seed}/{recipe}/metrics.json",
        predictions="results/{dataset}/seed={seed}/{recipe}/predictions.safetensors",
    log:
        "logs/evaluate/{dataset}/seed={seed}/{recipe}.log",
    conda:
        "../envs/kdq.yaml"
    threads: STUDY.config.threads
    params:
        job=job_of_script("scripts/evaluate.py"),
    message:
        "Evaluating {wildcards.dataset} seed {wildcards.seed}: {wildcards.recipe}"
    script:
        "../scripts/evaluate.py"
