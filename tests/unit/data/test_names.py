"""Names in one buffer behave as the list of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octoscale.data.names import Names, is_line

lines = st.text(max_size=8).filter(is_line)


@given(st.lists(lines), st.data())
def test_names_are_a_sequence(words: list[str], draw: st.DataObject) -> None:
    names = Names(words)

    assert list(names) == words
    assert len(names) == len(words)
    assert list(Names.parse(names.dump())) == words
    if words:
        rows = draw.draw(st.lists(st.integers(0, len(words) - 1)))
        assert list(names.take(np.array(rows, np.int64))) == [words[row] for row in rows]
        assert names[-1] == words[-1]
        assert list(names[1:]) == words[1:]


def test_a_row_beyond_the_end_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        Names(["a"])[1]


@pytest.mark.parametrize("name", ["two\nlines", "\udcff.jpg"])
def test_what_is_not_one_line_of_utf8_is_known(name: str) -> None:
    assert not is_line(name)
