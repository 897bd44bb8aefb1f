"""Keys that stages of fine-tuning share: how training continues, and from which teacher."""

from kdq.retrain.keys import Continued, Supervised, Taught

__all__ = ["SHARED_KEYS", "Continued", "Supervised", "Taught"]

SHARED_KEYS = (Taught, Continued)
