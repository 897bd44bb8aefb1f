"""The losses of all methods in one place, for whoever calls them from elsewhere.

Each stands in its method's own file, and no method imports this one: an edit of one method touches no other.
"""

from kdq.distill.at import attention_transfer
from kdq.distill.crd import nce
from kdq.distill.dkd import dkd
from kdq.distill.dml import dml
from kdq.distill.fitnet import hint
from kdq.distill.kd import kd, kd_soft_labels
from kdq.distill.ntk import cka, tangent_kernel
from kdq.distill.pkt import pkt
from kdq.distill.reviewkd import hcl
from kdq.distill.rkd import rkd
from kdq.distill.sp import sp
from kdq.distill.standardize import standardize

__all__ = [
    "attention_transfer",
    "cka",
    "dkd",
    "dml",
    "hcl",
    "hint",
    "kd",
    "kd_soft_labels",
    "nce",
    "pkt",
    "rkd",
    "sp",
    "standardize",
    "tangent_kernel",
]
