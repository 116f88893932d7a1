"""Which Brevitas quantizer a scheme asks for, for weights, activations, pixels and the ones of a sum."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from edgekd.manifest import QuantScheme

INPUT_THRESHOLD = 1.0  # 128 steps of 1/128: a pixel minus 128 is the network's int8 input


def weight_quantizer(scheme: QuantScheme) -> Any:  # noqa: ANN401 - a Brevitas injector class
    """Return the class that quantizes signed symmetric weights."""
    from brevitas.quant import fixed_point, scaled_int

    table = {
        ("per_tensor", "float"): scaled_int.Int8WeightPerTensorFloat,
        ("per_channel", "float"): scaled_int.Int8WeightPerChannelFloat,
        ("per_tensor", "power_of_two"): fixed_point.Int8WeightPerTensorFixedPoint,
        ("per_channel", "power_of_two"): fixed_point.Int8WeightPerChannelFixedPoint,
    }
    return table[scheme.granularity, scheme.scale]


def act_quantizer(scheme: QuantScheme, threshold: float) -> Any:  # noqa: ANN401 - a Brevitas injector class
    """Return the class that clips activations at `threshold`.

    Float scales are learned from `threshold` on; power-of-two ones stay, as a step of theirs is a factor of two.
    """
    from brevitas.inject.enum import ScalingImplType
    from brevitas.quant import fixed_point, scaled_int

    table = {
        (False, "float"): scaled_int.Int8ActPerTensorFloatMinMaxInit,
        (True, "float"): scaled_int.Uint8ActPerTensorFloatMaxInit,
        (False, "power_of_two"): fixed_point.Int8ActPerTensorFixedPointMinMaxInit,
        (True, "power_of_two"): fixed_point.Uint8ActPerTensorFixedPointMaxInit,
    }
    kind = ScalingImplType.CONST if scheme.scale == "power_of_two" else ScalingImplType.PARAMETER
    minimum = 0.0 if scheme.relu_unsigned else -threshold
    return table[scheme.relu_unsigned, scheme.scale].let(
        min_val=minimum, max_val=threshold, scaling_impl_type=kind, bit_width=scheme.act_bits
    )


class StoredBiasRound(nn.Module):
    """Round accumulator units to a stored integer of `bits` times 2^`shift_bits`, gradients passing as if unrounded."""

    def __init__(self, stored_bits: int, stored_shift_bits: int) -> None:
        super().__init__()
        self.step = 1 << stored_shift_bits
        self.low, self.high = -(1 << stored_bits - 1), (1 << stored_bits - 1) - 1

    def forward(self, units: Tensor) -> Tensor:
        """Return `units` (out_channels,) as multiples of the step."""
        stored = (units.detach() / self.step).round().clamp(self.low, self.high) * self.step
        return units + (stored - units).detach() if units.requires_grad else stored


def bias_quantizer(scheme: QuantScheme) -> Any:  # noqa: ANN401 - a Brevitas injector class
    """Return the class that quantizes biases to int32 at the scale of the sums, as the target stores them."""
    from brevitas.quant import Int32Bias

    if (scheme.bias_bits, scheme.bias_shift_bits) == (32, 0):
        return Int32Bias
    return Int32Bias.let(
        float_to_int_impl=StoredBiasRound, stored_bits=scheme.bias_bits, stored_shift_bits=scheme.bias_shift_bits
    )


def pixel_quantizer() -> Any:  # noqa: ANN401 - a Brevitas injector class
    """Return the class of int8 at scale 1/128; it is never learned."""
    from brevitas.inject.enum import ScalingImplType
    from brevitas.quant.fixed_point import Int8ActPerTensorFixedPointMinMaxInit

    return Int8ActPerTensorFixedPointMinMaxInit.let(
        min_val=-INPUT_THRESHOLD, max_val=INPUT_THRESHOLD, scaling_impl_type=ScalingImplType.CONST
    )


def sum_pool(channels: int, size: tuple[int, int], power: int) -> nn.Module:
    """Sum over the whole map divided by a power of two: a depthwise convolution whose weights are one integer step."""
    from brevitas.nn import QuantConv2d
    from brevitas.quant.fixed_point import Int8WeightPerTensorFixedPoint

    # Two narrow bits hold -1, 0, 1: the integer weight is 1 and its scale 1/power, exactly.
    pool: nn.Conv2d = QuantConv2d(
        channels,
        channels,
        size,
        groups=channels,
        bias=False,
        weight_quant=Int8WeightPerTensorFixedPoint,
        weight_bit_width=2,
    )
    nn.init.constant_(pool.weight, 1 / power)
    return pool.requires_grad_(requires_grad=False)
