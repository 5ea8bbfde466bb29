"""Houses for your tests: real colonies in real cells, in milliseconds, and cardboard ones where somebody asks for them by name.

    async with open_test_house(tmp_path) as house:              # real namespaces, an inline keeper, folders below tmp_path
        colony = await spawn_ready(house, "hello", "examples/hello-colony")

The pytest plugin `colony` (installed with the package) gives these as the fixtures `colony_house`, `colony_spawn` and `colony_cell`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .houses import fake_walls as fake_walls
    from .houses import free_walls as free_walls
    from .houses import open_test_house as open_test_house
    from .houses import spawn_ready as spawn_ready
    from .houses import wait_for as wait_for

__all__ = ["fake_walls", "free_walls", "open_test_house", "spawn_ready", "wait_for"]


def __getattr__(name: str) -> Any:
    # Loaded when first asked for: the pytest plugin lives beside this and is imported by every test run on the machine.
    if name in __all__:
        from . import houses

        return getattr(houses, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
