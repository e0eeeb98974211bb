"""The commands that the cloud adds to `culling`; the entry point `culling.commands` names this table."""

from culling.common.cli import Command

COMMANDS = {
    "cloud": Command("culling.cloud.cli:app", "Run the service that labels, culls, trains and publishes.", "cloud"),
    "demo": Command("culling.cloud.demo.cli:app", "Play a video through the whole loop on this machine.", "cloud"),
    "study": Command("culling.cloud.study.cli:app", "Ask whether culling works on a clip.", "cloud"),
    "bill": Command(
        "culling.cloud.bill.cli:app", "Add up what a day of a camera costs, beside full training.", "cloud"
    ),
    "watch": Command("culling.cloud.page.watch:app", "Watch every camera in a terminal.", "cloud"),
    "labels": Command("culling.cloud.annotations.cli:app", "Convert label files of other tools.", "cloud"),
    "evaluate": Command("culling.cloud.evaluation.cli:app", "Measure a model on a labelled video.", "cloud"),
    "query": Command("culling.cloud.query.cli:app", "Find when a stored video shows what is asked for.", "cloud"),
    "teacher check": Command(
        "culling.cloud.check.teacher_cli:app", "Try a teacher on a video before it labels.", "cloud"
    ),
    "export": Command("culling.cloud.model.cli:export_app", "Turn student weights into ONNX.", "cloud"),
    "pretrain": Command("culling.cloud.model.cli:pretrain_app", "Train the bundled student and teacher.", "cloud"),
    "bench student": Command(
        "culling.cloud.bench.cli:student_app", "The student, against torchvision's own export.", "cloud"
    ),
    "bench ingest": Command(
        "culling.cloud.bench.cli:ingest_app", "Durable frames/s, against raw socket and disk.", "cloud"
    ),
    "bench rounds": Command(
        "culling.cloud.bench.cli:rounds_app", "Rounds at once and in Ray, against one by one.", "cloud"
    ),
    "bench index": Command("culling.cloud.bench.cli:index_app", "A month of 200 cameras, against none.", "cloud"),
    "bench teacher": Command(
        "culling.cloud.bench.cli:teacher_app", "Labelling, against the teacher's bare forward.", "cloud"
    ),
    "bench train": Command(
        "culling.cloud.bench.cli:train_app", "Training, against a bare forward and backward.", "cloud"
    ),
    "bench gate": Command(
        "culling.cloud.bench.cli:gate_app",
        "The gate: what it publishes that it should not, and what it should.",
        "cloud",
    ),
    "bench memory cloud": Command(
        "culling.cloud.bench.cli:memory_app", "What a hundred further edges cost the service.", "cloud"
    ),
}
