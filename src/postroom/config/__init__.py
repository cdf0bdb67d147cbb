"""Configuration: settings from one TOML file, the environment, or account URLs."""

from postroom.config.load import load_config
from postroom.config.model import Config

__all__ = ["Config", "load_config"]
