"""Every test sees two CPU devices, so that pmap is real."""

import os
import sys
from pathlib import Path

os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax

jax.config.update('jax_num_cpu_devices', 2)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
