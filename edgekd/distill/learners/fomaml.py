"""MAML without second derivatives."""

from __future__ import annotations

from edgekd.distill.learners.base import register
from edgekd.distill.learners.maml import MAML


@register
class FirstOrderMAML(MAML):
    """MAML whose inner gradients count as constants: the outer gradient is that at the adapted weights."""

    name = "fomaml"
    source = (
        "C. Finn et al., Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks, ICML 2017, section 5.2, "
        "https://arxiv.org/abs/1703.03400"
    )
    second_order = False
