"""KDQ: distillation and quantization of image classifiers, tensors in, tensors out."""
