"""A Django project's settings."""

import os

SECRET_KEY = "not a secret: of a test"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.stacks.django_site.site"
INSTALLED_APPS = ["grocketmq.contrib.django"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
ROCKETMQ = {
    "namesrv": os.environ.get("NAMESRV_ADDR"),
    "group": "site",
    "consumers": ["tests.stacks.django_site.consumers.jobs"],
}
