"""The former import path of GPFQ, kept for callers outside of this project; see ``kdq.quantize.methods.gpfq``."""

from kdq.quantize.methods.gpfq import gpfq

__all__ = ["gpfq"]
