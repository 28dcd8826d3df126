// One frame, before and after. While the video is colorized, it shows the newest
// frame until the user goes to another one.

import {$, clock} from './elements.js';
import {act, session} from './session.js';

let number = 0;  // Of the frame.
let following = true;  // Whether to show the newest frame of a job.
let shown = '';  // What the pictures show.
let loading = false;

export function drawViewer(state) {
  $('no-frames').hidden = state.planned;
  $('viewer').hidden = !state.planned;
  if (!state.planned) {
    [number, following, shown] = [0, true, ''];
    return;
  }
  const {width, height} = state.facts;
  $('compare').style.setProperty('--aspect', width / height);
  $('frame').max = $('number').max = state.frames - 1;
  if (following && isLive(state)) number = state.job.frame;
  number = Math.min(number, state.frames - 1);
  draw();
}

function isLive({busy, job}) {
  return busy && job.kind === 'colors' && job.frame !== null;
}

// Shows a frame, and brings it into view.
export function goTo(frame) {
  move(frame);
  $('look').scrollIntoView({behavior: 'smooth'});
}

function move(frame) {
  following = false;
  number = Math.max(0, Math.min(session.state.frames - 1, frame));
  draw();
}

function draw() {
  const {state, shots} = session;
  const index = shots.findIndex((x) => x.start <= number && number < x.stop);
  const live = following && isLive(state);
  const colored = live ||
    state.colored.some(([start, stop]) => start <= number && number < stop);
  $('frame').value = number;
  if (document.activeElement !== $('number')) $('number').value = number;
  $('previous').disabled = number === 0;
  $('next').disabled = number === state.frames - 1;
  $('try').disabled = state.busy || index < 0 || shots[index].skipped;
  $('divide').disabled = state.busy || index < 0 || shots[index].start === number;
  $('save').href = `/frame/${number}/still`;
  $('save').download = `ref_${String(number).padStart(6, '0')}.png`;
  const time = clock(number / state.facts.rate);
  $('caption').textContent = `Frame ${number} · ${time} · shot ${index + 1} · ` +
    (colored ? 'before and after: drag the line' : 'not colored yet');
  load(live, colored);
}

async function load(live, colored) {
  const {jobs, job} = session.state;
  const wanted = `${number} ${live} ${colored} ${jobs} ${job && job.state}`;
  if (loading || shown === wanted) return;
  loading = true;
  const place = live ? '' : `/frame/${number}`;
  const before = picture($('before'), `${place}/before?${number}`);
  const after = colored
    ? picture($('after'), `${place}/after?${number}-${jobs}-${job && job.state}`)
    : false;
  await before;
  $('after').hidden = !await after;
  $('compare').classList.toggle('single', $('after').hidden);
  shown = wanted;
  loading = false;
  draw();  // The user may have moved on.
}

// Loads a picture; returns whether this succeeded.
function picture(image, src) {
  return new Promise((resolve) => {
    image.onload = () => resolve(true);
    image.onerror = () => resolve(false);
    image.src = src;
  });
}

$('frame').oninput = () => move(Number($('frame').value));
$('number').onchange = () => move(Number($('number').value));
$('previous').onclick = () => move(number - 1);
$('next').onclick = () => move(number + 1);
$('try').onclick = () => act('POST', '/try', {frame: number});
$('divide').onclick = () => act('POST', '/divide', {frame: number});
$('slider').oninput = () =>
  $('compare').style.setProperty('--x', `${$('slider').value}%`);

// A new coloring is shown as it proceeds.
export function followJob() {
  following = true;
}
