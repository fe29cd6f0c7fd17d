import os
from pathlib import Path

from celery import Celery
from celery.utils.log import get_task_logger
from probe import fail, probe

# SNIPPET
# A broker that is a folder needs no server, and works between processes.
folder = Path(__file__).with_name("broker")
folder.mkdir(exist_ok=True)
app = Celery("celery_app", broker="filesystem://")
app.conf.broker_transport_options = {key: str(folder) for key in ("data_folder_in", "data_folder_out", "control_folder")}


@app.task(name="order")
def order():
    probe(get_task_logger("shop.orders"))


@app.task(name="crash")
def crash():
    fail(0)
