"""Settings of Sphinx: ``sphinx-build -W docs docs/_build``."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

project = "grocketmq"
release = re.search(r'^__version__ = "(.+)"$', (ROOT / "grocketmq/__init__.py").read_text(encoding="utf-8"), re.MULTILINE)[1]
copyright = "the grocketmq authors"
extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
#: What grocketmq.contrib adapts to; the documents are built without them.
autodoc_mock_imports = ["celery", "django", "flask", "locust", "opentelemetry", "prometheus_client"]
