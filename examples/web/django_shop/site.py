"""Views, their URLs, and the WSGI application."""

import os

from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_POST

from grocketmq import Message
from grocketmq.contrib.django import producer

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_shop.settings")
application = get_wsgi_application()


@require_POST
def order(request):
    body = request.body.decode()
    result = producer().send(Message("shop_orders", body))
    return JsonResponse({"body": body, "msg_id": result.msg_id, "stored": result.offset_msg_id, "worker": os.getpid()})


def welcome(request):
    return HttpResponse("Welcome to the shop!")


urlpatterns = [path("orders", order), path("", welcome)]
