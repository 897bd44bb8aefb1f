"""Files and folders to give away: ONNX, measured speed, model folders."""
