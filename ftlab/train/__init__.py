"""Training: settings with their reasons (`settings`) and supervised fine-tuning (`sft`)."""

from ftlab.train.settings import PROFILES, SftConfig, sft_config
from ftlab.train.sft import train_sft

__all__ = ["PROFILES", "SftConfig", "sft_config", "train_sft"]
