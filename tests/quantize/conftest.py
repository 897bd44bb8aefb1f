"""What the tests of quantizers share."""

import pytest

from kdq.quantize.solver import compiled_columns as compiled


@pytest.fixture(params=["compiled", "torch"], scope="module")
def columns_both_ways(request):
    """Run every test of a module with columns that are compiled whatever the layer's size, and with none that are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "WEIGHTS", 0 if request.param == "compiled" else float("inf"))
        yield
