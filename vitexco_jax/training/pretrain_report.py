"""Validation of pretraining on held-out pictures, and its final report."""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from vitexco_jax import color, files
from vitexco_jax.media import pictures
from vitexco_jax.models.vitexco import Generator
from vitexco_jax.structs import Array
from vitexco_jax.training import crops, forward, pretrain_objective

_logger = logging.getLogger(__name__)

REPORT = 'pretrain.json'


def make_validate(
  generator: Generator,
  settings: ml_collections.ConfigDict,
  collection: crops.Collection,
) -> Callable[[Mapping[str, Any]], dict[str, float]]:
  """Makes `validate(params)`, which measures colors of held-out pictures.

  The pictures are those held out of the collection, and those of the folder
  `config.pretrain.validation`, if any, for example frames of other videos.

  Args:
    generator: the networks.
    settings: `config.pretrain`.
    collection: has the held-out pictures.

  Returns:
    A function of the generator's parameters. For each set of pictures, it returns
    the PSNR with the prior's colors and without color, in dB, and squared errors of
    ab.
  """
  size = tuple(settings.size)
  sets = {'held_out': list(crops.held_out(collection, size))}
  if settings.validation:
    source = pictures.open_pictures(settings.validation)
    keys = source.keys()
    sets['validation'] = [crops.cut(crops.read(source, x), size) for x in keys]
  apply: Callable[..., Any] = generator.apply

  @jax.jit
  def measure(params: Mapping[str, Any], rgb: Array) -> dict[str, jax.Array]:
    rgb = forward.unit_range(rgb)[None]
    lab = color.rgb_to_lab(rgb)
    luminance = color.center(lab)[..., :1]
    colors = apply({'params': params}, luminance, method='predict_color')
    ab = jax.image.resize(colors.ab, lab[..., 1:].shape, 'bilinear')

    def psnr(ab: jax.Array) -> jax.Array:
      colored = color.lab_to_rgb(jnp.concatenate([lab[..., :1], ab], -1))
      return -10 * jnp.log10(jnp.square(colored - rgb).mean() + 1e-10)

    errors = pretrain_objective.compare_colors(
      colors, lab[..., 1:], np.array([True])
    )
    return {
      'psnr': psnr(ab),
      'psnr_gray': psnr(0 * ab),
      'error': errors['error'],
      'error_gray': errors['gray'],
      'spread': errors['spread'],
    }

  def validate(params: Mapping[str, Any]) -> dict[str, float]:
    means = {}
    for name, images in sets.items():
      rows = [jax.device_get(measure(params, rgb)) for rgb in images]
      for key in rows[0] if rows else ():
        means[f'{name}/{key}'] = float(np.mean([row[key] for row in rows]))
    return means

  return validate


def write(
  compare: Callable[..., pretrain_objective.Comparison],
  settings: ml_collections.ConfigDict,
  kind: str,
  collection: crops.Collection,
  workdir: Path,
  params: Mapping[str, Any],
  heads: Mapping[str, Any],
) -> None:
  """Compares held-out pictures with their targets; prints and writes a report.

  Args:
    compare: of `pretrain_objective.make_compare`.
    settings: `config.pretrain`.
    kind: `config.model.feature_transform.kind`.
    collection: has the held-out pictures.
    workdir: folder of the report, `REPORT`.
    params: of the generator.
    heads: parameters of the heads.
  """
  compare = jax.jit(compare)
  results: dict[str, list[pretrain_objective.Comparison]]
  results = {'color': [], 'gray': []}
  for rgb in crops.held_out(collection, tuple(settings.size)):
    for mode, comparisons in results.items():
      in_gray = np.array([mode == 'gray'])
      comparison = compare(params, heads, rgb[None], in_gray)
      comparisons.append(jax.device_get(comparison))
  count = len(results['gray'])
  if not count:
    _logger.info('There is no report: no held-out picture can be read.')
    return
  report = {
    'updates': settings.updates,
    'kind': kind,
    'trained_on': {
      'pictures': len(collection.keys),
      'frames': len(collection.frames),
    },
    'held_out': count,
  }
  for mode, comparisons in results.items():
    mean = jax.tree.map(lambda *x: np.mean(x, 0, np.float64), *comparisons)
    if mode == 'gray' and mean.color:
      report['prior'] = {x: float(mean.color[x]) for x in ('error', 'gray')}
    report[mode] = {name: float(x.explained()) for name, x in mean.fits.items()}
    if mean.class_token is not None:
      report[mode]['class_token'] = 1 - float(mean.class_token)
  _logger.info(describe(report))
  files.write(workdir / REPORT, json.dumps(report, indent=2) + '\n')


def describe(report: Mapping[str, Any]) -> str:
  """Returns the report as a Markdown table."""
  columns = list(report['gray'])
  heading = [x.replace('_', ' ').replace('level', 'level ') for x in columns]
  lines = [
    f"Share of the variance of VGG16's maps that {report['kind']} decoders "
    f'explain, and cosine of the class token, for {report["held_out"]} held-out '
    'pictures:',
    '',
    f'| input | {" | ".join(heading)} |',
    '|---' * (len(columns) + 1) + '|',
  ]
  for mode in ('color', 'gray'):
    values = (f'{report[mode][name]:.3f}' for name in columns)
    lines.append(f'| {mode} | {" | ".join(values)} |')
  if 'prior' in report:
    error, of_gray = report['prior']['error'], report['prior']['gray']
    lines += [
      '',
      f'Mean squared error of ab: {error:.1f} with the prior, {of_gray:.1f} for '
      'gray.',
    ]
  return '\n'.join(lines)
