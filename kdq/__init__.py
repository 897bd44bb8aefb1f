"""KDQ: distillation and quantization of image classifiers."""
