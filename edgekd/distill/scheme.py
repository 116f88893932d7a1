"""Which quantization scheme a hardware profile asks for."""

from __future__ import annotations

from edgekd.errors import ProfileError
from edgekd.manifest import QuantScheme
from edgekd.profile import HardwareProfile
from edgekd.recipe import Quantize

WIDEST_BITS, WIDEST_BIAS_BITS = 8, 32


def resolve_scheme(profile: HardwareProfile, settings: Quantize, *, signed: bool = False) -> QuantScheme:
    """Return what the profile says, the recipe's choices, and defaults (INT8, per channel) for what is unknown.

    With a `signed` embedding all activations are signed: runtimes want one type in a layer.

    Raises:
        ProfileError: the profile allows no bit-width of 8 or less, or not the one that the recipe asks for; or it wants
            unsigned activations, and the embedding is signed.
    """
    if signed and profile.activations.relu_unsigned:
        raise ProfileError(
            f"profile {profile.name} wants unsigned activations, and the student's embedding is signed; "
            "name one without '/signed'"
        )
    weights, activations = profile.weights, profile.activations
    kinds = {weights.scale, activations.scale} - {None}
    scale = "power_of_two" if "power_of_two" in kinds else "float"
    known = {
        "weight_bits": _chosen(profile, settings) or _widest(weights.bits, "weights.bits", profile),
        "act_bits": _widest(activations.bits, "activations.bits", profile),
        "granularity": weights.granularity,
        "relu_unsigned": False if signed else activations.relu_unsigned,
        "bias_bits": _widest(profile.biases.bits, "biases.bits", profile, WIDEST_BIAS_BITS),
        "bias_shift_bits": profile.biases.shift_bits,
        "scale": scale if settings.scale == "profile" else settings.scale,
        "method": settings.method,
    }
    return QuantScheme.model_validate({key: value for key, value in known.items() if value is not None})


def _chosen(profile: HardwareProfile, settings: Quantize) -> int | None:
    asked, bits = settings.weight_bits, profile.weights.bits
    if asked is not None and bits is not None and asked not in bits:
        raise ProfileError(
            f"quantize.weight_bits is {asked}, and profile {profile.name} allows weights of {list(bits)} bits; "
            "choose one of these"
        )
    return asked


def _widest(bits: tuple[int, ...] | None, key: str, profile: HardwareProfile, most: int = WIDEST_BITS) -> int | None:
    if bits is None:
        return None
    usable = [width for width in bits if width <= most]
    if not usable:
        raise ProfileError(
            f"profile {profile.name} allows {key} = {list(bits)}, all above the {most} bits that edgekd quantizes to"
        )
    return max(usable)
