"""URLs, views and the WSGI application."""

import os

from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse
from django.urls import path

from grocketmq import Message
from grocketmq.contrib.django import producer
from tests.stacks.topics import TOPIC

__all__ = ["application", "urlpatterns"]

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.stacks.django_site.settings")
application = get_wsgi_application()


def send(request):  # type: ignore[no-untyped-def]
    body = request.META["QUERY_STRING"]
    result = producer().send(Message(TOPIC, body))
    return JsonResponse({"body": body, "msg_id": result.msg_id, "stored": result.offset_msg_id, "pid": os.getpid()})


urlpatterns = [path("send", send), path("who", lambda request: HttpResponse(str(os.getpid())))]
