"""What is told of other libraries' errors."""

import pytest

from octoscale.errors import first_line


@pytest.mark.parametrize(
    ("text", "told"),
    [("\n one\ntwo", "one"), ("", "ValueError"), ("\x1b[96mstep 1/3\x1b[0m of it\nmore", "step 1/3 of it")],
)
def test_the_first_line_alone_without_colours(text: str, told: str) -> None:
    assert first_line(ValueError(text)) == told
