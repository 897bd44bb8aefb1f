from kdq import data as data
from kdq import deploy as deploy
from kdq import distill as distill
from kdq import evaluate as evaluate
from kdq import models as models
from kdq.library import QuantizedNetwork as QuantizedNetwork
from kdq.library import UserError as UserError
from kdq.library import export as export
from kdq.library import load as load
from kdq.library import quantize as quantize
from kdq.library import save as save

__version__: str
