"""Which recurrences a backend has no code for, on whatever device."""

# what keeps its recurrent weights in registers, beyond which cuDNN serves
LARGEST_FUSED_STATE = 128


def unserved(backend: str, state_dim: int, *, masked: bool) -> str | None:
    """Why ``backend`` has no code for such a recurrence, on whatever device, and what has; None where it has."""
    if backend == "cudnn" and masked:
        return (
            "the scan cudnn takes no mask, for rnn_tanh cannot skip steps, got one: set model.scan=auto, or bptt, "
            "which takes masks, or model.mask_padding=false"
        )
    if backend == "triton" and state_dim > LARGEST_FUSED_STATE:
        return (
            f"the scan triton keeps W in registers, which hold a state_dim of at most {LARGEST_FUSED_STATE}, got "
            f"{state_dim}: set model.scan=auto, or bptt, which takes any"
        )
    return None
