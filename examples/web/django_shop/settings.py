"""The settings."""

import os

SECRET_KEY = os.environ.get("SECRET_KEY", "not a secret: of an example")
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "django_shop.site"
WSGI_APPLICATION = "django_shop.site.application"
INSTALLED_APPS = ["grocketmq.contrib.django"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
ROCKETMQ = {
    "namesrv": os.environ["NAMESRV_ADDR"],
    "group": "shop",
    "options": {"send_timeout": 10.0},
    "consumers": ["django_shop.consumers.orders"],
}
