"""The losses of all methods, for use as a library.

Each is defined in its method's file. No method imports this module, so that an edit of one method affects no other.
"""
# ruff: noqa: F401

from kdq.distill.methods.at import attention_transfer
from kdq.distill.methods.crd import nce
from kdq.distill.methods.dkd import dkd
from kdq.distill.methods.dml import dml
from kdq.distill.methods.fitnet import hint
from kdq.distill.methods.kd import kd, kd_soft_labels
from kdq.distill.methods.ntk import cka, tangent_kernel
from kdq.distill.methods.pkt import pkt
from kdq.distill.methods.reviewkd import hcl
from kdq.distill.methods.rkd import rkd
from kdq.distill.methods.sp import sp
from kdq.distill.standardize import standardize
