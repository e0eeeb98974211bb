"""How close the cloud runs to its limits: one bench, one file.

culling bench student           the exported student, against torchvision's stock detector exported as it is
culling bench ingest            durable frames/s of a real service, against a bare socket and a bare disk
culling bench teacher           images/s labelled, against the same model's bare forward
culling bench train             images/s trained on, against the same model's bare forward and backward
culling bench index             beats, page and upkeep on a month of 200 cameras' rows, against an empty index
culling bench gate              how often the gate publishes what it should not, and what it should
culling bench memory cloud      what a hundred further edges cost
"""

from __future__ import annotations

import typer

from culling.cloud.bench.gate import gate_command
from culling.cloud.bench.index import index_command
from culling.cloud.bench.ingest import ingest_command
from culling.cloud.bench.memory import memory_command
from culling.cloud.bench.student import student_command
from culling.cloud.bench.teacher import teacher_command
from culling.cloud.bench.train import train_command

student_app, ingest_app, index_app, teacher_app, train_app, gate_app, memory_app = (
    typer.Typer(add_completion=False) for _ in range(7)
)

student_app.command(name="student")(student_command)
ingest_app.command(name="ingest")(ingest_command)
index_app.command(name="index")(index_command)
teacher_app.command(name="teacher")(teacher_command)
train_app.command(name="train")(train_command)
gate_app.command(name="gate")(gate_command)
memory_app.command(name="cloud")(memory_command)
