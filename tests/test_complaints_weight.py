"""An error's body of very many values is not decoded: its beginning is told as text."""

from __future__ import annotations

from nexus.dialects import complaints
from nexus.dialects.complaints import complaint_of


def test_an_error_of_too_many_values_is_told_by_its_beginning():
    before, after = b'{"error":{"message":"no","code":"x","seen":[', b"{}]}}"
    few, many = (before + b"{}," * count + after for count in (100, complaints._MOST_VALUES))
    assert (complaint_of(few).message, complaint_of(few).codes) == ("no", {"x"})
    said = complaint_of(many)
    assert said.value is None
    assert said.message.startswith('{"error":{"message":"no"')
    assert len(said.message) <= 200
