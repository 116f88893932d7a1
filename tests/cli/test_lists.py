"""`edgekd backbones` and `edgekd learners`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from edgekd.cli import backbones, learners
from edgekd.distill.backbones import BACKBONES, build_backbone, trained_parameters
from edgekd.distill.learners import LEARNERS


def printed(command: Any, *arguments: str) -> str:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_every_backbone_is_listed_with_its_size() -> None:
    lines = printed(backbones.command).splitlines()
    for name in BACKBONES:
        assert len([line for line in lines if line.startswith(f"{name}  ")]) == 1
    size = trained_parameters(build_backbone("conv4", 3))
    assert f"conv4  conv4: {size:,} parameters, embedding of 64, 4 layers" in lines
    facts = {fact["name"]: fact for fact in json.loads(printed(backbones.command, "--json"))}
    assert set(facts) == set(BACKBONES)
    assert (facts["mlp"]["example"], facts["mlp"]["embedding_dim"]) == ("mlp:3072-1200-1200", 1200)
    assert all(fact["summary"] and fact["parameters"] > 0 for fact in facts.values())
    assert all(fact["source"] for name, fact in facts.items() if name != "projected")


def test_every_learner_is_listed_with_its_source() -> None:
    lines = printed(learners.command).splitlines()
    for name, learner in LEARNERS.items():
        assert len([line for line in lines if line.startswith(f"{name}  ")]) == 1
        assert f"  source: {learner.source}" in lines
    facts = {fact["name"]: fact for fact in json.loads(printed(learners.command, "--json"))}
    assert (facts["siamese"]["measures"], facts["siamese"]["unit"]) == (["triplet_accuracy"], "triplets")


@pytest.mark.parametrize("command", [backbones.command, learners.command])
def test_the_lists_need_the_training_extra(monkeypatch: pytest.MonkeyPatch, command: Any) -> None:
    monkeypatch.setattr("edgekd.cli._extras.find_spec", lambda _: None)
    result = CliRunner().invoke(command, [])
    assert "install edgekd[train]" in str(result.exception)
