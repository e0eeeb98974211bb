"""The command line that measures a model on a labelled clip: `culling evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

app = typer.Typer(add_completion=False)


@app.command(
    name="evaluate",
    epilog="Example: culling evaluate --model student.onnx --video clip.mp4 --labels labels.jsonl --from 0.6",
)
def evaluate_command(
    model: Annotated[Path, typer.Option(help="student or teacher, .onnx or .safetensors")],
    video: Annotated[Path, typer.Option(help="the labelled clip")],
    labels: Annotated[Path, typer.Option(help="label file, one JSON object a line")],
    first: Annotated[float, typer.Option("--from", min=0, max=1, help="fraction of the clip to begin at")] = 0.0,
    last: Annotated[float, typer.Option("--to", min=0, max=1, help="fraction of the clip to end at")] = 1.0,
    scale: Annotated[float, typer.Option(min=0.1, max=4, help="multiplies the model's usual input size")] = 1.0,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="lowest score of a label that counts as true")] = 0.4,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure a model on a labelled clip: VOC07 as in the paper, and COCO's AP50 and AP50:95, per class."""
    from rich.console import Console
    from rich.table import Table

    from culling.cloud.evaluation.evaluate import evaluate

    result = evaluate(model, video, labels, first, last, scale, min_score)
    if as_json:
        typer.echo(msgspec.json.encode(result).decode())
        return
    table = Table(title=f"{model.name} on {result.frames} labelled frames of {video.name}")
    for name in ("class", "labels", "AP50", "AP50:95", "VOC07"):
        table.add_column(name, justify="left" if name == "class" else "right")
    for name, one in result.per_class.items():
        table.add_row(name, str(one.objects), f"{one.ap50:.3f}", f"{one.ap50_95:.3f}", f"{one.voc07:.3f}")
    table.add_row("mean", "", f"{result.ap50:.3f}", f"{result.ap50_95:.3f}", f"{result.voc07:.3f}", style="bold")
    Console().print(table)
