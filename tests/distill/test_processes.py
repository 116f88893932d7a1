"""Two processes on the CPU: the same gradients as one on the same global batch, and the whole chain runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file as save_tensors

from edgekd.distill.backbones import build_backbone
from edgekd.distill.methods import Dims, Outputs, Samples
from edgekd.distill.methods.crd import Contrastive
from edgekd.distill.seeding import derive_seed
from edgekd.distill.tasks import Classifier

ROOT = Path(__file__).parents[2]

ONE_STEP = """
import sys
from pathlib import Path
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from edgekd.data import load_splits
from edgekd.distill.batches import TrainingImages, shuffled_rows
from edgekd.distill.backbones import build_backbone
from edgekd.distill.methods import Samples, build_method
from edgekd.distill.resolve import dims_of
from edgekd.distill.session import open_session
from edgekd.distill.tasks import Classifier, DistillTask, LabelTask
from edgekd.recipe import Augment

torch.set_num_threads(1)
session = open_session("fp32", 0, cpu=True)
train = load_splits(sys.argv[1]).train
images = TrainingImages.load(train, Augment(flip=True, rotation_degrees=10), session)
torch.manual_seed(0)
student, peer, alone = (Classifier(build_backbone(spec, 3), 8) for spec in ("conv4-8", "resnet12:4", "conv4-8"))
mutual = build_method("ce + dml", dims_of(student.backbone, peer.backbone, train))
tasks = {"labels": LabelTask(alone), "mutual": DistillTask(student, mutual, peer=peer)}
pixels, labels = images.take(shuffled_rows(128, 32, 0, "x")(0), "x", 0)
batches = {"labels": {"labels": labels}, "mutual": {"samples": Samples(labels, torch.zeros_like(labels))}}
gradients = {}
for name, task in tasks.items():
    for module in task.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    model = session.accelerator.prepare_model(task)  # kept until the gradients are there: it averages them
    loss, _ = model(images=pixels, **batches[name])
    session.accelerator.backward(loss)
    gradients |= {f"{name}.{key}": value.grad for key, value in task.named_parameters() if value.grad is not None}
if session.is_main:
    save_file(gradients, sys.argv[2], {"world": str(session.world)})
"""

CONTRAST = """
import sys
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from edgekd.distill.methods import Dims, Outputs, Samples
from edgekd.distill.methods.crd import Contrastive

torch.set_num_threads(1)
distributed.init_process_group("gloo")
rank, data = distributed.get_rank(), load_file(sys.argv[1])
method = Contrastive(Dims(3, 4, 5, images=8), size=6, nce_k=4, temperature=0.5).double()
method.load_state_dict({name[6:]: value for name, value in data.items() if name.startswith("state/")})
model = DistributedDataParallel(method)
for step in range(2):
    torch.manual_seed(step)
    torch.rand(1 + rank)  # what else a process draws does not matter
    s, t, rows = (data[f"{kind}{step}"][2 * rank : 2 * rank + 2] for kind in ("student", "teacher", "rows"))
    method.zero_grad()
    model(Outputs(s, s), Outputs(t, t), Samples(rows, rows)).backward()
if rank == 0:
    gradients = {f"gradient/{name}": value.grad for name, value in method.named_parameters()}
    save_file({**gradients, **dict(method.named_buffers())}, sys.argv[2])
distributed.destroy_process_group()
"""


def launch(processes: int, *arguments: str, folder: Path) -> None:
    """Run a Python program in several processes; `accelerate launch` starts no second one on a CPU without MPI."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    done = subprocess.run(
        [*launcher, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_gradients_are_those_of_one_process(tmp_path: Path, image_folder: Path) -> None:
    script = tmp_path / "step.py"
    script.write_text(ONE_STEP)
    found = []
    for processes in (1, 2):
        file = tmp_path / f"{processes}.safetensors"
        launch(processes, str(script), f"folder:{image_folder}", str(file), folder=tmp_path)
        with safe_open(file, framework="numpy") as stream:
            assert stream.metadata() == {"world": str(processes)}
        found.append(load_file(file))
    one, two = found
    networks = {tuple(name.split(".")[:2]) for name in one}
    assert networks == {("labels", "classifier"), ("mutual", "classifier"), ("mutual", "peer")}
    assert one.keys() == two.keys()
    for name, gradient in one.items():
        scale = max(abs(gradient).max(), 1e-6)
        assert abs(gradient - two[name]).max() / scale < 1e-4, name


@pytest.mark.slow
def test_contrastive_memories_and_gradients_are_those_of_one_process(
    tmp_path: Path,
) -> None:
    torch.manual_seed(11)
    method = Contrastive(Dims(3, 4, 5, images=8), size=6, nce_k=4, temperature=0.5).double()
    data = {f"state/{name}": value.clone() for name, value in method.state_dict().items()}
    for step, rows in enumerate(([3, 6, 0, 5], [5, 1, 7, 3])):
        student, teacher = torch.randn(4, 3).double(), torch.randn(4, 4).double()
        data |= {f"student{step}": student, f"teacher{step}": teacher, f"rows{step}": torch.tensor(rows)}
        torch.manual_seed(step)
        method.zero_grad()
        samples = Samples(torch.tensor(rows), torch.tensor(rows))
        method(Outputs(student, student), Outputs(teacher, teacher), samples).backward()
    (tmp_path / "steps.py").write_text(CONTRAST)
    save_tensors(data, tmp_path / "in.safetensors")
    launch(2, "steps.py", "in.safetensors", "out.safetensors", folder=tmp_path)
    found = load_tensors(tmp_path / "out.safetensors")
    expected = {f"gradient/{name}": value.grad for name, value in method.named_parameters()}
    expected |= dict(method.named_buffers())
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


@pytest.mark.slow
def test_the_chain_runs_on_two_processes(tmp_path: Path, tiny_recipe: Path) -> None:
    """Views come again, so that each process keeps what the teacher said of its own."""
    views = "--set", "distill.views=1"
    launch(2, "-m", "--", "edgekd", "distill", "--recipe", str(tiny_recipe), "--cpu", *views, folder=tmp_path)
    (run,) = tmp_path.glob("runs/*")
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["complete"]
    assert list(manifest["stages"]) == ["teach", "scratch", "distill", "meta", "quantize"]
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len({(line["stage"], line["step"]) for line in steps}) == len(steps)  # one process writes


@pytest.mark.slow
def test_each_of_two_processes_keeps_answers_that_another_student_finds(tmp_path: Path, tiny_recipe: Path) -> None:
    """Each asks about its own images; the second run asks about none."""
    short = (
        "distill.views=1", "distill.epochs=2", "baseline.enabled=false", "meta.enabled=false", "quantize.enabled=false"
    )  # fmt: skip
    shared = [argument for choice in short for argument in ("--set", choice)]
    shared += ["--recipe", str(tiny_recipe), "--cpu", "--answers", str(tmp_path / "answers")]

    def tables(name: str, student: str, *teacher: str) -> dict[str, int]:
        own = ["--run", str(tmp_path / name), "--student", student, *teacher]
        launch(2, "-m", "--", "edgekd", "distill", *shared, *own, folder=tmp_path)
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "answers").glob("answers-*")}

    first = tables("first", "conv4-8")
    assert sorted(name.split("-")[-1] for name in first) == ["0of2.f32", "1of2.f32"]
    assert tables("second", "conv4-16", "--teacher-weights", str(tmp_path / "first" / "teacher.safetensors")) == first


@pytest.mark.slow
def test_a_loss_that_does_not_reach_the_head_runs_on_two_processes(
    tmp_path: Path, tiny_recipe: Path, image_folder: Path
) -> None:
    """Without a gradient it stays as it was, undecayed, and no process waits for one."""
    choices = (
        "distill.method=fitnet + feature_bce", f"distill.images=folder:{image_folder / 'train'}",
        "distill.weight_decay=0.5", "distill.epochs=1", "baseline.enabled=false", "meta.enabled=false",
        "quantize.method=ptq", "teacher.epochs=0", "connect.epochs=1", "connect.batch_size=32", "head.epochs=1",
        "head.batch_size=32",
    )  # fmt: skip
    arguments = [argument for choice in choices for argument in ("--set", choice)]
    launch(2, "-m", "edgekd", "distill", "--recipe", str(tiny_recipe), "--cpu", *arguments, folder=tmp_path)
    (run,) = tmp_path.glob("runs/*")
    stages = list(json.loads((run / "manifest.json").read_text())["stages"])
    assert stages == ["teach", "connect", "distill", "head", "student", "quantize"]
    torch.manual_seed(derive_seed(0, "student", "weights"))
    start = Classifier(build_backbone("conv4-8", 3), 8)
    distilled = load_file(run / "distilled.safetensors")
    assert (distilled["network/head.weight"] == start.head.weight.detach().numpy()).all()
    conv = start.state_dict()["backbone.body.conv4.weight"].numpy()
    assert (distilled["network/backbone.body.conv4.weight"] != conv).any()


def test_the_separator_keeps_our_options_from_the_launchers() -> None:
    """`--run` alone would be taken for `--run-path`."""
    from torch.distributed.run import get_args_parser

    ours = ["distill", "--run", "one", "--cpu"]
    found = get_args_parser().parse_args(["--standalone", "--nproc-per-node", "2", "-m", "--", "edgekd", *ours])
    assert (found.training_script, found.training_script_args) == ("edgekd", ours)
