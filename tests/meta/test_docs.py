"""What the documents name is there, and what is public is documented."""

import ast
import inspect
import re
from dataclasses import MISSING, fields

import pytest

import grocketmq
from grocketmq import Backpressure, ClientConfig, errors
from grocketmq.consumer.config import (
    ConsumerConfig,
    LitePullConsumerConfig,
    PushConsumerConfig,
    SimpleConsumerConfig,
)
from grocketmq.producer.config import ProducerConfig
from tests.docs import readme
from tests.meta.source import ROOT, modules

#: The README's tables of consumers' options.
CONSUMERS = {
    "``PushConsumer`` and ``LitePullConsumer``": ConsumerConfig,
    "``PushConsumer``": PushConsumerConfig,
    "``LitePullConsumer``": LitePullConsumerConfig,
    "``SimpleConsumer``": SimpleConsumerConfig,
}
CONFIGS = [ClientConfig, ProducerConfig, *CONSUMERS.values()]
PUBLIC = [name for name in grocketmq.__all__ if not name.startswith("__")]
#: Names that begin with a capital in the README's literals and are no names of grocketmq.
OTHERS = {
    "TypeError",
    "ValueError",
    "TimeoutError",
    "NAMESRV_ADDR",
    "GROCKETMQ_NAMESRV",
    "JSON",
    "ROCKETMQ",
    "RMQ_SYS_TRACE_TOPIC",
    "None",
    "AsyncResult",
    "SSLContext",
    "GEVENT_LOOP",
}


def members() -> list[tuple[str, object]]:
    """The public functions, classes and their public methods and properties, by full name."""
    found: list[tuple[str, object]] = []
    for name in PUBLIC:
        thing = getattr(grocketmq, name)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        found.append((name, thing))
        for attribute, member in vars(thing).items() if inspect.isclass(thing) else ():
            if not attribute.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                found.append((f"{name}.{attribute}", member))
    return found


@pytest.mark.parametrize(("name", "thing"), members(), ids=[name for name, _ in members()])
def test_public_names_have_a_docstring(name: str, thing: object) -> None:
    doc = inspect.getdoc(thing) or ""
    assert doc.strip(), f"{name} has no docstring"
    # The one that @dataclass writes is the bare signature.
    assert not doc.startswith(f"{name}("), f"{name} has no docstring of its own"


def api_entries() -> dict[str, str]:
    """The public names that docs/api.rst has, each with its options; errors have a page of their own."""
    text = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8")
    return dict(re.findall(r"^\.\. auto(?:class|function):: grocketmq\.(\w+)\n((?:   .*\n)*)", text, re.MULTILINE))


def test_api_page_has_every_public_name() -> None:
    assert set(PUBLIC) - set(errors.__all__) - api_entries().keys() == set()


def test_api_page_shows_properties() -> None:
    """Of clients, results and contexts, since autoclass alone shows parameters only; strategies' are their protocol's."""
    owners = {
        name
        for name in set(PUBLIC) - set(errors.__all__)
        if not name.startswith("Allocate")
        and any(isinstance(one, property) and not key.startswith("_") for key, one in vars(getattr(grocketmq, name)).items())
    }
    assert {"SendMessageContext", "ConsumeMessageContext", "MessageExt"} <= owners
    assert {name for name in owners if ":members:" not in api_entries()[name]} == set()


@pytest.mark.parametrize("config", CONFIGS)
def test_options_are_explained(config: type) -> None:
    lines = inspect.getsource(config).splitlines()
    wrong = [
        field.name
        for field in fields(config)
        for number, line in enumerate(lines)
        if re.match(rf"    {field.name}: ", line) and not lines[number - 1].strip().startswith("#:")
    ]
    assert not wrong


def test_readme_imports_only_what_is_there() -> None:
    imported = {
        alias.name
        for code in readme.python_blocks()
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom) and node.module == "grocketmq"
        for alias in node.names
    }
    assert imported <= set(PUBLIC)


def test_readme_names_only_what_is_there() -> None:
    literals = re.findall(r"``([^`]+)``", readme.text())
    names = {name for literal in literals for name in re.findall(r"(?<![\w\"'/%.-])([A-Z][A-Za-z_]+)", literal)}
    known = set(PUBLIC) | OTHERS | {"ProducerConfig", "PushConsumerConfig"}
    for enumeration in (grocketmq.ConsumeFromWhere, grocketmq.ConsumeStatus, grocketmq.SendStatus):
        known |= set(enumeration.__members__)
    assert {name for name in names if name not in known and not name.isupper()} == set()
    assert {name for name in names if name.isupper() and "_" in name} <= known


def test_readme_errors_are_the_trees() -> None:
    table = re.findall(r"^``(\w+)`` {2,}", readme.section("Errors"), re.MULTILINE)
    assert len(table) > 10
    assert set(table) <= set(errors.__all__)


@pytest.mark.parametrize(
    ("owner", "config"),
    [("Every client", ClientConfig), ("``Producer``", ProducerConfig), *CONSUMERS.items()],
)
def test_readme_options_and_defaults(owner: str, config: type) -> None:
    defaults = {field.name: field.default for field in fields(config)}
    table = readme.option_table(owner)
    for name, default in table.items():
        assert name in defaults
        if default != "(see text)":
            assert defaults[name] is not MISSING
            assert ast.literal_eval(default) == defaults[name], name
    if "backpressure" in table:
        assert defaults["backpressure"] == Backpressure(max_messages=10_000, max_bytes=104_857_600)


@pytest.mark.parametrize(("owner", "config"), CONSUMERS.items())
def test_readme_has_all_options_of_consumers(owner: str, config: type) -> None:
    own = {field.name for field in fields(config) if field.name in vars(config)["__annotations__"]}
    assert set(readme.option_table(owner)) == own


def test_dependencies_have_a_reason() -> None:
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    table = readme.section("Installing")
    lists = re.findall(r"\[([^\]]*)\]", setup[setup.index("install_requires") : setup.index("entry_points")])
    wanted = {re.split(r"[><=;]", name)[0] for one in lists for name in re.findall(r"[\"']([^\"']+)[\"']", one)}
    assert {"gevent", "mmh3", "msgspec", "lz4", "backports.zstd"} <= wanted
    assert all(f"``{name}" in table for name in wanted)


@pytest.mark.parametrize("path", ["README.rst", "CHANGES.rst", "docs/architecture.rst", "examples/README.rst"])
def test_documents_are_plain_ascii(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8").isascii()


def test_architecture_names_only_modules_that_are_there() -> None:
    text = (ROOT / "docs" / "architecture.rst").read_text(encoding="utf-8")
    wrong = [
        name
        for name in re.findall(r"``((?:[a-z_]+/)+[a-z_]+\.py)``", text)
        if not (ROOT / "grocketmq" / name).is_file() and not (ROOT / name).is_file()
    ]
    assert not wrong


def greenlet_names() -> set[str]:
    """The fixed beginning of the name of every greenlet that the library spawns in a group, such as ``pull later``."""
    names = set()
    for module in modules().values():
        if module.name.split(".")[1:2] not in (["client"], ["consumer"], ["kapokmq"], ["producer"], ["remoting"]):
            continue
        if module.name == "grocketmq.remoting.server":  # serves the embedded brokers
            continue
        for node in ast.walk(module.tree):
            called = isinstance(node, ast.Call) and (getattr(node.func, "attr", None) or getattr(node.func, "id", None))
            if called not in ("spawn", "spawn_later", "loop", "periodic"):
                continue
            for argument in node.args[:2]:
                first = argument.values[0] if isinstance(argument, ast.JoinedStr) else argument
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    names.add(first.value.strip())
    return names


def test_architecture_names_every_greenlet() -> None:
    text = (ROOT / "docs" / "architecture.rst").read_text(encoding="utf-8")
    names = greenlet_names()
    assert {"pull service", "heartbeat", "connection", "async send"} <= names
    assert {name for name in names if f"``{name}" not in text} == set()
