"""How close the cloud runs to its limits: one bench, one file.

culling bench student           the exported student, against torchvision's stock detector exported as it is
culling bench ingest            durable frames/s of a real service, against a bare socket and a bare disk
culling bench teacher           images/s labelled, against the same model's bare forward
culling bench train             images/s trained on, against the same model's bare forward and backward
culling bench rounds            rounds/hour, several at once and in Ray, against one after the other
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
from culling.cloud.bench.rounds import rounds_command
from culling.cloud.bench.student import student_command
from culling.cloud.bench.teacher import teacher_command
from culling.cloud.bench.train import train_command

student_app, ingest_app, rounds_app, index_app, teacher_app, train_app, gate_app, memory_app = (
    typer.Typer(add_completion=False) for _ in range(8)
)

student_app.command(name="student", epilog="Example: culling bench student --frames 40 --threads 4")(student_command)
ingest_app.command(name="ingest", epilog="Example: culling bench ingest --edges 50 --size 200000")(ingest_command)
rounds_app.command(name="rounds", epilog="Example: culling bench rounds --cameras 4")(rounds_command)
index_app.command(name="index", epilog="Example: culling bench index --cameras 50 --frames 100000")(index_command)
teacher_app.command(name="teacher", epilog="Example: culling bench teacher --batch 8")(teacher_command)
train_app.command(name="train", epilog="Example: culling bench train --steps 50 --batch 8")(train_command)
gate_app.command(name="gate", epilog="Example: culling bench gate --json")(gate_command)
memory_app.command(name="cloud", epilog="Example: culling bench memory cloud --edges 200")(memory_command)
