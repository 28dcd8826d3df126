"""Stages of the work in profiles."""

import contextlib
import sys

import jax

from vitexco_jax import stages


def test_a_stage_is_an_annotation_once_jax_is_imported(monkeypatch):
  with stages.stage(stages.DECODE) as annotation:
    assert isinstance(annotation, jax.profiler.TraceAnnotation)
  monkeypatch.delitem(sys.modules, 'jax.profiler')
  assert isinstance(stages.stage(stages.DECODE), contextlib.nullcontext)
