"""Arguments of the command line: parsing, checks, and help."""

import ast
import math
import re
import textwrap
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import ml_collections
from absl import flags

from vitexco_jax import config as configs
from vitexco_jax.cli.commands import Call
from vitexco_jax.cli.modes import MODES, Mode
from vitexco_jax.errors import UserError, nearest, program

_EVERYWHERE = ('mode', 'config')
_NOT_IN_PREVIEWS = (
  'keep-work',
  'codec',
  'bits',
  'quality',
  'compare',
  'confidence',
  'audio',
)
_HELP = '-h$|--?help'
_EPILOGUE = (
  'The mode can also come first: `{program} colorize --video=IN ...`. --version '
  'prints the version. -h, --help, or no arguments print this text; with a mode, '
  '-h and --help print the help for this mode.',
  'Any value of the config can be set: --config.train.batch_size=8. Modes that use '
  "weights apply these values to the weights' config; export uses the run's config "
  'unchanged.',
)


def parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses the plain flags; returns the program and the other arguments.

  Raises:
    UserError: a flag has a wrong value.
  """
  name, *arguments = argv
  if arguments and arguments[0] in MODES:
    if any(re.match('--?mode(=|$)', x) for x in arguments[1:]):
      raise UserError(
        f'{arguments[0]} and --mode are mutually exclusive: give one'
      )
    arguments[0] = f'--mode={arguments[0]}'
  try:
    return flags.FLAGS([name, *arguments], known_only=True)
  except flags.Error as error:
    raise UserError(str(error)) from error


def make_call(arguments: Iterable[str]) -> Call:
  """Reads the config and checks the plain flags.

  Args:
    arguments: those that `parse_flags` returns.

  Raises:
    UserError: an argument is wrong or missing.
  """
  try:
    config = configs.load(flags.FLAGS.config)
  except UserError as error:
    raise UserError(f'--config={flags.FLAGS.config}: {error}') from error
  overrides = parse_overrides(arguments, config)
  check_flags(flags.FLAGS.mode, overrides)
  return Call(configs.override(config, overrides), overrides)


def parse_overrides(
  arguments: Iterable[str], config: ml_collections.ConfigDict
) -> dict[str, Any]:
  """Parses overrides such as `--config.train.batch_size=8`.

  Args:
    arguments: all arguments except plain flags.
    config: defines the allowed names and types.

  Returns:
    Values by dotted name, as in `{'train.batch_size': 8}`.

  Raises:
    UserError: a name is unknown, a value has the wrong type, or an argument does
      not have this form.
  """
  known = configs.flatten(config)
  overrides = {}
  for argument in arguments:
    flag, equals, text = argument.partition('=')
    dashes, dot, name = flag.partition('config.')
    if dashes not in ('-', '--') or not dot:
      raise UserError(_no_flag(argument))
    if name not in known:
      raise UserError(
        f'the config has no {name!r}' + nearest(name, known, cutoff=0.0)
      )
    if not equals:
      raise UserError(f'--config.{name} has no value: write {flag}=VALUE')
    overrides[name] = _parse_value(name, text, known[name])
  return overrides


def _parse_value(name: str, text: str, default: Any) -> Any:
  """Parses a value of the type of the default."""
  kind = type(default)
  try:
    if kind is bool:
      return {'true': True, 'false': False}[text.lower()]
    if kind is not tuple:
      value = kind(text)
      if kind is float and not math.isfinite(value):
        raise ValueError
      return value
    value = ast.literal_eval(text)
    if {type(x) for x in value} != {type(x) for x in default}:
      raise TypeError
    if len(default) == 2 != len(value):  # A size.
      raise TypeError
    return tuple(value)
  except (
    KeyError,
    SyntaxError,
    TypeError,
    ValueError,
    RecursionError,
    MemoryError,  # From Python's parser.
  ) as error:
    example = str(default).replace(' ', '')
    raise UserError(
      f'--config.{name}={text} is not of type {kind.__name__}: write a value '
      f'like {example}'
    ) from error


def _no_flag(argument: str) -> str:
  """Returns the message for an unknown argument."""
  known = [*MODES, *_all_flags(), 'help', 'version']
  if not argument.startswith('-'):
    near = nearest(argument, known, cutoff=0.6)
    if near and near[len('; did you mean ') : -1] not in MODES:
      near = near.replace('mean ', 'mean --')
    return (
      f'{argument!r} is not a flag: all arguments except a leading mode have the '
      f'form --NAME=VALUE{near}'
    )
  name = argument.lstrip('-').partition('=')[0]
  return f'there is no flag --{name}' + nearest(name, _all_flags(), '--')


def _all_flags() -> list[str]:
  names = [*_EVERYWHERE]
  for mode in MODES.values():
    names += mode.needed + mode.optional
  return list(dict.fromkeys(names))


# --- Checks ---


def check_flags(name: str, overrides: Collection[str]) -> None:
  """Checks that a mode gets its required flags and no unknown ones.

  Args:
    name: of the mode.
    overrides: names of the config values that are set.

  Raises:
    UserError: the mode is unknown, or a flag is missing or belongs to another mode.
  """
  if name not in MODES:
    raise UserError(
      f'there is no --mode={name}'
      + (nearest(name, MODES, cutoff=0.6) or f'; known are {", ".join(MODES)}')
    )
  _check_own_flags(name, MODES[name])
  if name == 'prepare' and not (flags.FLAGS.videos or flags.FLAGS.images):
    raise UserError('--mode=prepare needs --videos, --images, or both')
  if name in ('plan', 'colorize'):
    _check_references(name)
  if flags.FLAGS['working-size'].value and 'use.size' in overrides:
    raise UserError(
      '--working-size and --config.use.size are mutually exclusive: give one'
    )
  if flags.FLAGS.frames and flags.FLAGS['keep-work'].value:
    raise UserError(
      '--frames and --keep-work are mutually exclusive: only a whole film keeps '
      'its segments'
    )
  for flag in _NOT_IN_PREVIEWS if flags.FLAGS.preview else ():
    if flags.FLAGS[flag].present:
      raise UserError(f'--preview writes no film: leave out --{flag}')
  for flag in ('hosts', 'host'):
    if flags.FLAGS[flag].present and not flags.FLAGS.coordinator:
      raise UserError(f'--{flag} needs --coordinator')
  if name == 'export' and overrides:
    raise UserError(
      '--mode=export uses the config of the run unchanged: leave out '
      + ', '.join(f'--config.{key}' for key in overrides)
    )


def _check_own_flags(name: str, mode: Mode) -> None:
  """Checks that flags belong to a mode, and that it has those it needs."""
  own = mode.needed + mode.optional
  for flag in sorted({*_all_flags()}.difference(own, _EVERYWHERE)):
    if flags.FLAGS[flag].present:
      near = nearest(flag, own, '--')
      raise UserError(f'--mode={name} does not know --{flag}{near}')
  for flag in mode.needed:
    if not flags.FLAGS[flag].value:
      raise UserError(f'--mode={name} needs --{flag}')


def _check_references(mode: str) -> None:
  """Checks that exactly one flag defines the references."""
  ways = ['reference', 'references', 'plan'][: 3 if mode == 'colorize' else 2]
  given = [name for name in ways if flags.FLAGS[name].value]
  named = [f'--{name}' for name in given or ways]
  if not given and mode == 'colorize':
    from vitexco_jax.inference import photos

    if photos.has_references(Path(flags.FLAGS.video)):
      return
  if not given:
    raise UserError(
      f'--mode={mode} needs {", ".join(named[:-1])} or {named[-1]}'
    )
  if len(given) > 1:
    raise UserError(f'{" and ".join(named)} are mutually exclusive: give one')
  references = flags.FLAGS.reference or ()
  for single in ('auto', 'none'):
    if single in references and len(references) > 1:
      raise UserError(
        f'--reference={single} allows no other references: leave them out'
      )
  automatic = 'auto' in references
  if automatic != bool(flags.FLAGS.gallery):
    raise UserError('--reference=auto and --gallery require each other')


# --- Help ---


def wants_help(arguments: Sequence[str]) -> bool:
  """Tests if the arguments ask for help; no arguments do."""
  return not arguments or any(re.match(_HELP, x) for x in arguments)


def make_help(arguments: Sequence[str], title: str) -> str:
  """Returns the help for a mode, or for all if the arguments name none.

  Args:
    arguments: of the command line.
    title: what the program does.
  """
  words = ' '.join(arguments)
  match = re.search(r'^(\w+)|(?<!\S)--?mode[= ](\w+)', words)
  name = match and (match[1] or match[2])
  return _help_for_mode(name) if name in MODES else _help_for_all(title)


def _help_for_mode(name: str) -> str:
  mode = MODES[name]
  lines = [mode.help, '', *_usage(name, mode)]
  for title, names in {
    'Required flags': mode.needed,
    'Optional flags': (*mode.optional, 'config'),
  }.items():
    if names:
      lines += ['', f'{title}:', *map(_describe, names)]
  return '\n'.join(lines)


def _help_for_all(title: str) -> str:
  lines = [title, '', 'Each call runs one mode:', '']
  for name, mode in MODES.items():
    lines += [*_usage(name, mode), f'      {mode.help}']
  for text in _EPILOGUE:
    lines += ['', textwrap.fill(text.format(program=program()), 80)]
  lines += ['', 'Flags:']
  for flag in sorted(_all_flags()):
    users = [name for name, x in MODES.items() if flag in x.needed + x.optional]
    lines.append(_describe(flag, ', '.join(users)))
  return '\n'.join(lines)


def _usage(name: str, mode: Mode) -> list[str]:
  return [f'  {program()} --mode={name} {usage}' for usage in mode.usage]


def _describe(name: str, modes: str = '') -> str:
  """Describes a flag: its name, the modes that use it, help, and default."""
  flag = flags.FLAGS[name]
  shown = f'--[no]{name}' if flag.boolean else f'--{name}'
  help_text = flag.help.partition(';\n')[0]  # absl adds a note to lists.
  text = textwrap.fill(
    f'{shown}: {modes}: {help_text}' if modes else f'{shown}: {help_text}',
    80,
    initial_indent='  ',
    subsequent_indent='    ',
    break_on_hyphens=False,
  )
  if flag.default not in (None, False):
    text += f'\n    (default: {flag.default_as_str})'
  return text
