"""What has changed since a product was made, in words."""

from types import SimpleNamespace

import pytest

from kdq.provenance.verify.changes import changed_keys


@pytest.mark.parametrize(
    ("before", "now", "text"),
    [
        ({"k": 1}, {"k": 2}, "k: 1 -> 2"),
        ({}, {"k": 2}, "k: nothing -> 2"),
        ({"k": [1]}, {"k": []}, "k: gone [1]"),
        ({"k": ["a", "b"]}, {"k": ["b", "c"]}, "k: new ['c'], gone ['a']"),
        ({"k": {"a": 1, "b": 2}}, {"k": {"b": 3, "c": 4}}, "k: new ['c'], gone ['a'], other ['b']"),
        ({"k": [1, 2]}, {"k": [2, 1]}, "k: [1, 2] -> [2, 1]"),  # in another order
        ({"k": [1]}, {"k": {"a": 1}}, "k: [1] -> {'a': 1}"),
    ],
)
def test_keys(before, now, text):
    assert changed_keys(SimpleNamespace(keys=now, unseen={}), SimpleNamespace(keys=before)) == [text]


def test_keys_that_no_result_depends_on_are_left_out():
    assert changed_keys(SimpleNamespace(keys={"k": 2}, unseen={"k": ""}), SimpleNamespace(keys={"k": 1})) == []
