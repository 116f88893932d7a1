"""Everything the rules may ask about a file, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from edgekd.errors import ModelError
from edgekd.manifest import Manifest
from edgekd.verify.activations import activations_of
from edgekd.verify.costs import Costs, costs_of
from edgekd.verify.graph import Flavour, Graph
from edgekd.verify.integer.static import Lowered, lowered_of
from edgekd.verify.layers import Layer, layers_of
from edgekd.verify.memory import ActivationMemory, memory_of
from edgekd.verify.operators import flavour_of
from edgekd.verify.quantization import Quantization


@dataclass(frozen=True, eq=False)
class Facts:
    """A graph and what follows from it alone; `manifest` is None for files that edgekd did not export.

    Rules look for what would make a failure pass where `hinted`; no verdict depends on that, and it takes time.
    """

    graph: Graph
    manifest: Manifest | None
    flavour: Flavour
    layers: tuple[Layer, ...]
    activations: tuple[Quantization, ...]
    costs: Costs
    memory: ActivationMemory
    hinted: bool = True

    @cached_property
    def lowered(self) -> Lowered:
        """The integer steps of the graph, or why there are none."""
        return lowered_of(self.graph)


def facts_of(graph: Graph) -> Facts:
    """Analyse a graph.

    Raises:
        ModelError: it carries a manifest that is damaged.
    """
    manifest = _manifest_of(graph)
    layers = layers_of(graph, manifest.quantization.weight_bits if manifest else None)
    return Facts(
        graph=graph,
        manifest=manifest,
        flavour=flavour_of(graph),
        layers=layers,
        activations=activations_of(graph, layers),
        costs=costs_of(graph, layers),
        memory=memory_of(graph),
    )


def _manifest_of(graph: Graph) -> Manifest | None:
    try:
        return Manifest.from_metadata(graph.metadata)
    except ModelError as error:
        raise ModelError(f"{graph.path}: {error}") from error
