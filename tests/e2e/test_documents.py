"""What the documents say is typed and run."""

import pytest

from .world import play

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


@pytest.mark.root  # its socket is that of root
def test_every_block_of_the_readme_does_what_it_says() -> None:
    play("readme")
