"""Write an ONNX file's logits in this environment's ONNX Runtime, which may be an old one without this package.

python predictions.py FILE IMAGES.npy LOGITS.npy

``IMAGES.npy`` are uint8 (M, C, H, W). The graph that the runtime made of the file is written to ``LOGITS.npy.onnx``.
"""

import sys

import numpy as np
import onnxruntime


def main(file: str, images: str, logits: str) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.optimized_model_filepath = f"{logits}.onnx"
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    content = np.load(images)
    batches = (content[start : start + 128].astype(np.float32) / 255 for start in range(0, len(content), 128))
    np.save(logits, np.concatenate([session.run(None, {"images": batch})[0] for batch in batches]))
    print(onnxruntime.__version__)


if __name__ == "__main__":
    main(*sys.argv[1:])
