"""The commands that the edge adds to `culling`; the entry point `culling.commands` names this table."""

from culling.common.cli import Command

COMMANDS = {
    "edge": Command("culling.edge.cli:app", "Run the agent beside the cameras.", "edge"),
    "bench edge": Command("culling.edge.bench.cli:edge_app", "The agent's frames/s, against the bare model's.", "edge"),
    "bench overhead": Command(
        "culling.edge.bench.cli:overhead_app", "Choosing and keeping frames, against inferring.", "edge"
    ),
    "bench swap": Command(
        "culling.edge.bench.cli:swap_app", "A camera while models are swapped, against rest.", "edge"
    ),
    "bench memory edge": Command(
        "culling.edge.bench.cli:memory_app", "What each further camera costs an agent.", "edge"
    ),
}
