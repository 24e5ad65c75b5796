"""In which precision a network computes while it is trained; its weights stay float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from csc_xr.errors import ParameterError
from csc_xr.networks.runtime import gpu_capability, keras
from csc_xr.networks.safety import architecture_of, build_model

Precision = Literal["float32", "bfloat16", "float16", "auto"]
Computed = Literal["float32", "bfloat16", "float16"]

# Compute capabilities of the first graphics cards with matrix units for these, best first.
_CAPABILITIES: dict[Computed, tuple[int, int]] = {"float16": (7, 0), "bfloat16": (8, 0)}
_NEEDS = {
    "float16": "a graphics card of compute capability 7.0 or more",
    "bfloat16": "a graphics card of compute capability 8.0 or more, or without a card a processor "
    "with avx512_bf16 or amx_bf16",
}
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
_CPU_INFO = Path("/proc/cpuinfo")
_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def choose_precision(wanted: Precision) -> Computed:
    """Choose the precision to train in on this machine.

    A graphics card does the work where there is one, else the processor.

    Parameters
    ----------
    wanted : {"float32", "bfloat16", "float16", "auto"}
        ``"auto"`` takes float16 on a graphics card of compute capability 7.0 or more, else
        bfloat16 where a processor computes it natively (avx512_bf16 or amx_bf16, as Linux
        tells), else float32.

    Returns
    -------
    {"float32", "bfloat16", "float16"}
        For :func:`with_precision`.

    Raises
    ------
    ParameterError
        When there is no such precision, or what does the work does not compute it natively.
    """
    if wanted not in get_args(Precision):
        raise ParameterError(
            f"precision must be one of {', '.join(get_args(Precision))}, got {wanted!r}."
        )
    if wanted == "float32":
        return "float32"
    native, found = _native_precisions()
    if wanted == "auto":
        return native[0] if native else "float32"
    if wanted not in native:
        raise ParameterError(
            f"precision {wanted!r} needs {_NEEDS[wanted]}, got {found}. Pass precision='float32', "
            "or 'auto' for the best there is."
        )
    return wanted


def with_precision(model: keras.Model, precision: Computed) -> keras.Model:
    """Rebuild a network so that it computes in a precision.

    The weights are float32 in any precision, and so is what the last layer computes. Keep a
    network in files only after it was brought back to float32: it is then the same network as
    before, but for what training changed.

    Parameters
    ----------
    model : keras.Model
        Of plain layers; left as it is.
    precision : {"float32", "bfloat16", "float16"}
        What all layers but the last compute in.

    Returns
    -------
    keras.Model
        The same architecture and weights, not compiled. In float16, ``compile`` scales the
        loss, so that small gradients are not lost.

    Raises
    ------
    ParameterError
        When there is no such precision.
    NetworkError
        When the model holds anything but plain layers.
    """
    if precision not in _POLICIES:
        raise ParameterError(
            f"A network computes in {', '.join(_POLICIES)}, got precision {precision!r}. "
            "choose_precision turns 'auto' into one of them."
        )
    architecture = architecture_of(model)
    _set_policies(architecture, _POLICIES[precision], "float32")
    rebuilt = build_model(architecture, source="The network")
    rebuilt.set_weights(model.get_weights())
    # Says to compile that the loss needs scaling; the layers have policies of their own.
    rebuilt.dtype_policy = _POLICIES[precision]
    return rebuilt


def _native_precisions() -> tuple[list[Computed], str]:
    """Give what is computed natively, best first, and by what."""
    capability = gpu_capability()
    if capability is None:
        if _BFLOAT16_FLAGS & _cpu_flags():
            return ["bfloat16"], "no graphics card and a processor with bfloat16"
        return [], "no graphics card and no processor with bfloat16"
    native: list[Computed] = [
        precision for precision, least in _CAPABILITIES.items() if capability >= least
    ]
    return native, "a graphics card of compute capability {}.{}".format(*capability)


def _cpu_flags() -> set[str]:
    if not _CPU_INFO.is_file():
        return set()
    lines = (line for line in _CPU_INFO.read_text().splitlines() if line.startswith("flags"))
    return set(next(lines, "").split())


def _set_policies(model: dict[str, Any], inner: str, output: str) -> None:
    config = model["config"]
    # A functional model names its output layer; in a Sequential it is the last.
    ends = keras.tree.flatten(config.get("output_layers", [config["layers"][-1]["config"]["name"]]))
    for layer in config["layers"]:
        policy = output if layer["config"]["name"] in ends else inner
        if "layers" in layer["config"]:
            _set_policies(layer, inner, policy)
        elif layer["class_name"] != "InputLayer":
            layer["config"]["dtype"] = keras.dtype_policies.serialize(
                keras.dtype_policies.DTypePolicy(policy)
            )
