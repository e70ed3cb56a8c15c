"""Safety alignment of diffusion language models: MOSA, Initial Alignment and their rivals."""


def __getattr__(name):
    # transformers' Trainer takes seconds to import: only for those who train
    if name in ("MOSATrainer", "MOSAConfig", "align", "with_lora"):
        from mosa.alignment import trainer

        return getattr(trainer, name)
    if name == "windowed_max_loglik":
        from mosa.alignment.reward import windowed_max_loglik

        return windowed_max_loglik
    raise AttributeError(f"module 'mosa.alignment' has no attribute {name!r}")
