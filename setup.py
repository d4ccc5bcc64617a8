"""Packaging of grocketmq; tool settings are in pyproject.toml, test environments in tox.ini."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def read_version() -> str:
    """Read ``__version__`` without importing the package, whose dependencies may not be installed yet."""
    text = (HERE / "grocketmq" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise RuntimeError("grocketmq/__init__.py has no __version__ line")
    return match.group(1)


def read_description() -> str:
    readme = HERE / "README.rst"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


setup(
    name="grocketmq",
    version=read_version(),
    description="Apache RocketMQ client for gevent applications",
    long_description=read_description(),
    long_description_content_type="text/x-rst",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["rocketmq", "gevent", "messaging", "queue"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Programming Language :: Python :: Implementation :: CPython",
        "Topic :: System :: Networking",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["grocketmq", "grocketmq.*"]),
    package_data={"grocketmq": ["py.typed"]},
    zip_safe=False,
    python_requires=">=3.10",
    install_requires=["gevent>=24.11.1", "mmh3"],
    extras_require={
        "speed": ["msgspec"],
        "lz4": ["lz4"],
        "zstd": ['backports.zstd; python_version < "3.14"'],
        "cli": ["click", "rich"],
        "kapokmq": ["wsproto>=1.2", "h11"],
        "test": ["pytest>=8", "hypothesis", "trustme>=1.2", "cryptography"],
        "docs": ["sphinx"],
    },
    entry_points={
        "console_scripts": ["grocketmq = grocketmq.cli.main:main"],
        "pytest11": ["grocketmq = grocketmq.testing.plugin"],
    },
)
