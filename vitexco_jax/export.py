"""A run's parameters and config as a folder to hand on."""

from pathlib import Path

from vitexco_jax import checkpoint, files
from vitexco_jax.errors import UserError


def export_run(workdir: Path, output: Path) -> None:
  """Writes the newest checkpoint's generator, as float16, with its config.

  Raises:
    UserError: there is no whole checkpoint, or `output` exists or cannot be
      written.
  """
  if output.exists():
    raise UserError(f'--output={output} exists: name a folder that does not')
  params = checkpoint.load_params(workdir)
  with files.explained('--output', output):
    checkpoint.export(output, params, checkpoint.load_config(workdir))
  print(f'Wrote {output}; colour with --checkpoint={output}')
