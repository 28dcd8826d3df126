// The list of shots with their references.

import {$, drawList, element, toggle} from './elements.js';
import {act, session, showError} from './session.js';
import {goTo} from './viewer.js';

export function drawShots(state) {
  $('try-all').hidden = !state.planned;
  $('try-all').disabled =
    state.busy || session.shots.every((shot) => shot.skipped);
  $('no-shots').hidden = state.planned;
  $('how').hidden = !state.planned;
  drawList($('shots'), session.shots,
    (shot, index) =>
      [shot, state.references, isLast(index), isColored(shot)],
    drawShot);
  for (const button of $('shots').querySelectorAll('.edit'))
    button.disabled = state.busy || Boolean(button.off);
}

function drawShot(shot, index) {
  const {state} = session;
  return element('li', {},
    element('div', {className: 'shot'},
      element('div', {className: 'looks'},
        drawLook(shot, index, `/thumbnail/${index}?${shot.start}`, 'the original'),
        ...(isColored(shot) ? [drawLook(shot, index,
          `/frame/${middle(shot)}/after?${state.jobs}`, 'in color')] : [])),
      element('span', {
        className: 'name',
        textContent:
          `${index + 1} · ${shot.from} · ${shot.stop - shot.start} frames`,
      }),
      element('div', {className: 'tools'}, drawTry(shot, index),
        drawSkip(shot, index), ...drawJoin(index))),
    element('div', {className: 'choices'},
      ...state.references.map((reference, place) =>
        drawChoice(shot, index, reference, place))));
}

// The frame to look at first.
function middle(shot) {
  return shot.trial ?? Math.floor((shot.start + shot.stop) / 2);
}

function isColored(shot) {
  const frame = middle(shot);
  return session.state.colored.some(([start, stop]) =>
    start <= frame && frame < stop);
}

function drawLook(shot, index, src, what) {
  const {width, height} = session.state.facts;
  return element('button', {
    id: `look-${what.length}-${index}`,
    className: 'look',
    title: `look at the frames of shot ${index + 1}`,
    onclick: () => goTo(middle(shot)),
  }, element('img', {
    src, width, height, alt: `shot ${index + 1}, ${what}`, loading: 'lazy',
  }));
}

function drawTry(shot, index) {
  return element('button', {
    id: `try-${index}`,
    className: 'small edit',
    textContent: 'try',
    title: `colorize one frame of shot ${index + 1}`,
    off: shot.skipped,
    onclick: () => {
      goTo(middle(shot));
      act('POST', '/try', {frame: middle(shot)});
    },
  });
}

function drawSkip(shot, index) {
  return toggle(shot.skipped, {
    id: `skip-${index}`,
    className: 'small edit skip',
    textContent: 'leave as it is',
    onclick: () => act('PUT', `/shots/${index}`, {skip: !shot.skipped}),
  });
}

function isLast(index) {
  return index === session.shots.length - 1;
}

function drawJoin(index) {
  if (isLast(index)) return [];
  return [element('button', {
    id: `join-${index}`,
    className: 'small edit',
    textContent: 'join with the next',
    onclick: () => act('POST', `/shots/${index}/join`),
  })];
}

function drawChoice(shot, index, {number, name, frame}, place) {
  const bound = frame !== null && shot.start <= frame && frame < shot.stop;
  return toggle(shot.references.includes(number), {
    id: `choice-${index}-${number}`,
    className: 'edit',
    title: name,
    onclick: () => choose(shot, index, number),
  },
    element('img', {src: `/reference/${number}`, alt: name, loading: 'lazy'}),
    bound ? `frame ${frame}` : judge(shot, place));
}

// The most similar references were tried on the shot.
function judge(shot, place) {
  const verdict = shot.verdicts[place];
  if (verdict) return `${verdict} (${Math.round(100 * shot.coverages[place])} %)`;
  return shot.scores[place] === null ? 'not tried' : 'not tried: less similar';
}

// A click adds or removes a reference; a shot keeps its last reference unless
// there is a color prior.
async function choose(shot, index, number) {
  const others = shot.references.filter((x) => x !== number);
  const references =
    others.length < shot.references.length ? others : [...others, number];
  if (!references.length && !session.state.prior) {
    showError('A shot needs at least one reference: choose another one first.');
    return;
  }
  await act('PUT', `/shots/${index}`, {references});
}

$('try-all').onclick = () => act('POST', '/try', {frame: null});
