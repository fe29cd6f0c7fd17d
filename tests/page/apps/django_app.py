import logging
import sys

import django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.urls import path
from probe import fail, probe

# SNIPPET
settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="x", ALLOWED_HOSTS=["*"], LOGGING=LOGGING)


def order(request):
    probe(logging.getLogger("shop.orders"))
    return HttpResponse("ok")


urlpatterns = [path("order", order), path("crash", lambda request: fail(0))]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
