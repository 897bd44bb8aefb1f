"""The losses of all methods in one place, for whoever calls them from elsewhere.

Each stands in its method's own file, and no method imports this one: an edit of one method touches no other.
"""

from kdq.distill.dkd import dkd
from kdq.distill.kd import kd, kd_soft_labels

__all__ = ["dkd", "kd", "kd_soft_labels"]
