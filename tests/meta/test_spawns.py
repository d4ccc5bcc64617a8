"""Every greenlet has an owner, nothing blocks the hub's thread, and nobody swallows a kill."""

import ast
from collections.abc import Iterator

import pytest

from tests.meta.source import Module, modules, within

#: Who may start greenlets directly; everybody else goes through grocketmq.runtime.
SPAWNERS = ("grocketmq.runtime", "grocketmq.remoting", "grocketmq.embedded")
SPAWNS = ("gevent.spawn", "gevent.spawn_later", "gevent.spawn_raw", "gevent.Greenlet", "gevent.greenlet.Greenlet")
#: They use locks and waits of the operating system's threads, which stop all greenlets at once.
BLOCKING = (
    "_thread.RLock",
    "_thread.allocate_lock",
    "_thread.start_new_thread",
    "asyncio",
    "concurrent.futures",
    "multiprocessing",
    "queue",
    "threading",
    "time.sleep",
)

all_modules = pytest.mark.parametrize("module", modules().values(), ids=lambda module: module.name)


def imported_names(module: Module) -> dict[str, str]:
    """Local name -> dotted name, for what the module imports from outside: ``{"spawn": "gevent.spawn"}``."""
    names = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """The full name that an expression stands for, ``""`` if it is none."""
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value, names)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def uses(module: Module) -> Iterator[tuple[ast.expr, str]]:
    names = imported_names(module)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            yield node, dotted(node.func, names)
        elif isinstance(node, ast.ClassDef):
            yield from ((base, dotted(base, names)) for base in node.bases)


@all_modules
def test_no_greenlet_without_an_owner(module: Module) -> None:
    if any(within(module.name, spawner) for spawner in SPAWNERS):
        return
    wrong = [f"{module.at(node.lineno)}: {name}" for node, name in uses(module) if any(within(name, spawn) for spawn in SPAWNS)]
    assert not wrong, "\n".join(wrong)


@all_modules
def test_nothing_that_blocks_the_thread(module: Module) -> None:
    wrong = [
        f"{module.at(found.line)}: imports {found.target}"
        for found in module.imports()
        if any(within(found.target, name) for name in BLOCKING)
    ]
    wrong += [f"{module.at(node.lineno)}: {name}" for node, name in uses(module) if name in BLOCKING]
    assert not wrong, "\n".join(wrong)


@all_modules
def test_no_kill_is_swallowed(module: Module) -> None:
    wrong = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                wrong.append(f"{module.at(node.lineno)}: bare except")
            elif names_base_exception(node.type) and not raises(node.body):
                wrong.append(f"{module.at(node.lineno)}: except BaseException that does not end in raise")
        elif isinstance(node, ast.Call) and any(names_base_exception(arg) for arg in node.args):
            if isinstance(node.func, ast.Name | ast.Attribute) and "suppress" in ast.unparse(node.func):
                wrong.append(f"{module.at(node.lineno)}: BaseException is suppressed")
    assert not wrong, "\n".join(wrong)


def names_base_exception(node: ast.expr) -> bool:
    options = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(isinstance(option, ast.Name) and option.id == "BaseException" for option in options)


def raises(body: list[ast.stmt]) -> bool:
    return isinstance(body[-1], ast.Raise)
