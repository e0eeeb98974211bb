"""How close the edge runs to its limits: one bench, one file.

    culling bench edge --cameras 1,4,16      the whole agent's frames/s, against a bare loop of the same model
    culling bench overhead                   confidence, selection and spool, against the inference of the same frames
    culling bench overhead --outputs         the agent with every output on, against the same agent with none
    culling bench overhead --view            the agent with its live view on, against the same agent without one
    culling bench swap                       200 swaps on a camera at work, against the same camera without swaps
    culling bench memory edge                what each further camera costs

By default the bundled clip and student are used; exporting the student takes most of a minute.
"""

from __future__ import annotations

import typer

from culling.edge.bench.agent import edge_command
from culling.edge.bench.memory import memory_command
from culling.edge.bench.overhead import overhead_command
from culling.edge.bench.swap import swap_command

edge_app, overhead_app, swap_app, memory_app = (typer.Typer(add_completion=False) for _ in range(4))

edge_app.command(name="edge", epilog="Example: culling bench edge --cameras 1,4,16")(edge_command)
overhead_app.command(name="overhead", epilog="Example: culling bench overhead --frames 400")(overhead_command)
swap_app.command(name="swap", epilog="Example: culling bench swap --swaps 50")(swap_command)
memory_app.command(name="edge", epilog="Example: culling bench memory edge --cameras 16")(memory_command)
