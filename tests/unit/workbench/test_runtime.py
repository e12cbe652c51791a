"""What the doctor takes from an Envoy's runtime: which share of the requests a fraction is."""

from __future__ import annotations

import pytest

from authz.document import parse
from authz.node import Problems
from authz.workbench.doctor.place import Place
from authz.workbench.doctor.runtime import percent


@pytest.mark.parametrize(
    ("fraction", "share"),
    [
        pytest.param("{numerator: 50}", 50, id="of a hundred where nothing else is written"),
        pytest.param("{numerator: 50, denominator: HUNDRED}", 50, id="of a hundred"),
        pytest.param("{numerator: 50, denominator: 0}", 50, id="of a hundred, by number"),
        pytest.param("{numerator: 5000, denominator: TEN_THOUSAND}", 50, id="of ten thousand"),
        pytest.param("{numerator: 5000, denominator: 1}", 50, id="of ten thousand, by number"),
        pytest.param("{numerator: 500000, denominator: MILLION}", 50, id="of a million"),
        pytest.param("{numerator: 500000, denominator: 2}", 50, id="of a million, by number"),
        pytest.param("{numerator: 100, denominator: THOUSAND}", 0.01, id="of what is unknown: as little as may be"),
        pytest.param("{denominator: HUNDRED}", 0, id="nothing of a hundred"),
        pytest.param("12.5", 12.5, id="a plain number is one of percent"),
    ],
)
def test_a_fraction_in_percent(fraction: str, share: float) -> None:
    node = parse(fraction.encode(), "envoy.yaml", Problems())
    assert node is not None
    assert percent(Place(node, node.source)) == share
