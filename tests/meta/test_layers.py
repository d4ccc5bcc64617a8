"""The arrows between the layers point down only (docs/architecture.rst draws them)."""

import pytest

from tests.meta.source import Import, Module, modules, within

L0 = ("errors", "codes", "hashing", "model")
L1 = ("wire",)
L2 = ("runtime",)
L3 = ("remoting",)
L4 = ("client",)
L5_COMMON = ("hooks", "stats")
L5_CLIENTS = ("producer", "consumer", "admin")
BELOW_L4 = (*L0, *L1, *L2, *L3)
BELOW_L5 = (*BELOW_L4, *L4)
PUBLIC = ("", *BELOW_L5, *L5_COMMON, "trace", *L5_CLIENTS)

#: Each part of the package: the other parts it may import; "" is the package ``grocketmq`` itself.
ALLOWED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(L0, L0),
    **dict.fromkeys(L1, L0),
    "runtime": ("errors",),
    "remoting": (*L0, *L1, *L2),
    "client": BELOW_L4,
    **dict.fromkeys(L5_COMMON, (*BELOW_L5, *L5_COMMON)),
    "trace": (*BELOW_L5, *L5_COMMON),
    **dict.fromkeys(L5_CLIENTS, (*BELOW_L5, *L5_COMMON, "trace")),
    "embedded": BELOW_L4,
    "kapokmq": ("errors", "runtime", "remoting"),
    "": (*BELOW_L5, *L5_COMMON, "trace", *L5_CLIENTS),
    "contrib": PUBLIC,
    "compat": PUBLIC,
    "testing": (*PUBLIC, "embedded"),
    "cli": (*PUBLIC, "embedded", "kapokmq", "testing"),
    "__main__": ("cli",),
}

SOCKETS = ("socket", "ssl", "select", "selectors", "socketserver", "gevent.socket", "gevent.ssl", "gevent.server")
IMPURE = (*SOCKETS, "gevent", "greenlet", "time", "logging", "random", "secrets", "os", "subprocess")
#: Modules from outside that a part may not import.
FORBIDDEN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((*L0, *L1), IMPURE),
    **dict.fromkeys((*L2, *L4, *L5_COMMON, "trace", *L5_CLIENTS, "embedded", "kapokmq"), SOCKETS),
}


def part(name: str) -> str:
    """``grocketmq.wire.framing`` -> ``wire``."""
    return name.partition(".")[2].partition(".")[0]


def own_imports(module: Module) -> list[Import]:
    return [found for found in module.imports() if within(found.target, "grocketmq")]


def test_every_part_has_a_layer() -> None:
    assert {part(name) for name in modules()} <= ALLOWED.keys()


def test_arrows_point_down() -> None:
    wrong = []
    for module in modules().values():
        own = part(module.name)
        for found in own_imports(module):
            target = part(found.target)
            if target != own and target not in ALLOWED.get(own, ()):
                wrong.append(f"{module.at(found.line)}: {own or 'grocketmq'} imports {found.target}")
    assert not wrong, "\n".join(wrong)


def test_layers_stay_pure() -> None:
    wrong = []
    for module in modules().values():
        for found in module.imports():
            if any(within(found.target, name) for name in FORBIDDEN.get(part(module.name), ())):
                wrong.append(f"{module.at(found.line)}: {part(module.name)} imports {found.target}")
    assert not wrong, "\n".join(wrong)


def test_no_import_cycles() -> None:
    edges = {
        module.name: {
            found.target for found in own_imports(module) if not found.lazy and not found.typing and found.target != module.name
        }
        for module in modules().values()
    }
    finished: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            pytest.fail("import cycle: " + " -> ".join([*path[path.index(name) :], name]))
        if name not in finished:
            for target in sorted(edges.get(name, ())):
                visit(target, [*path, name])
            finished.add(name)

    for name in edges:
        visit(name, [])
