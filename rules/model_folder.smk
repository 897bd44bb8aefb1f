rule model_folder:
    input:
        data=DATA_FILE,
        model=f"{PARENT}/model.safetensors",
        onnx=f"{PARENT}/model.onnx",
        metrics=f"{PARENT}/metrics.json",
        float=PLAN.input_of("hub/README.md", "float"),
        latency=PLAN.input_of("hub/README.md", "latency"),
    output:
        record=f"{PARENT}/hub/provenance.json",
        card=f"{PARENT}/hub/README.md",
        onnx=f"{PARENT}/hub/model.onnx",
        model=f"{PARENT}/hub/model.safetensors",
        config=f"{PARENT}/hub/config.json",
        preprocessor=f"{PARENT}/hub/preprocessor_config.json",
        license=f"{PARENT}/hub/LICENSE",
    log:
        "logs/model_folder/{dataset}/seed={seed}/{parent}.log",
    conda:
        "../envs/kdq.yaml"
    threads: STUDY.config.threads
    resources:
        mem_mb=ESTIMATES.memory("evaluate"),
        runtime=ESTIMATES.minutes("evaluate"),
    params:
        job=PLAN.folder_job,
    message:
        "Folder to give away of {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}"
    shell:
        PLAN.command(
            "scripts/model_folder.py",
            input="data model onnx metrics float latency",
            output="record card onnx model config preprocessor license",
        )
