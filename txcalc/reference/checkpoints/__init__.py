"""Files of weights as mappings from names to tensors: memory-mapped, read when asked for, never pickle."""

from txcalc.reference.checkpoints.checkpoint import Checkpoint, shape_of
from txcalc.reference.checkpoints.gguf import GgufFile
from txcalc.reference.checkpoints.safetensors import SafetensorsFile, open_directory

__all__ = ["Checkpoint", "GgufFile", "SafetensorsFile", "open_directory", "shape_of"]
