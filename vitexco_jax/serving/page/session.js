// The state of the session. It is requested once a second. Each action of the user
// goes to the server, and the next state shows its effect.

import {$} from './elements.js';

const GONE = 'The server does not respond; it may have been stopped.';
const listeners = [];  // Called with each new state.
let left = false;  // Whether the user has left the session: no more requests.

export const session = {
  state: null,
  shots: [],  // From /shots; empty until the shots are found.
};

// Calls a function after each new state.
export function follow(listener) {
  listeners.push(listener);
}

export function showError(sentence) {
  $('error').textContent = sentence;
  $('error').hidden = !sentence;
}

// Returns the JSON of the response; shows an error, and returns null then.
async function ask(method, path, content) {
  const body = content === undefined ? undefined : JSON.stringify(content);
  try {
    const answer = await fetch(path, {method, body});
    const result = await answer.json();
    if (answer.ok) return result;
    showError(result.error);
  } catch {
    showError(GONE);
  }
  return null;
}

// Sends an action of the user; returns null if it was refused.
export async function act(method, path, content) {
  showError('');
  const done = await ask(method, path, content);
  await refresh();
  return done;
}

export async function refresh() {
  if (left) return;
  const state = await ask('GET', '/state');
  if (!state) return;
  if ($('error').textContent === GONE) showError('');
  const edited = !session.state || session.state.edits !== state.edits;
  if (!state.planned) session.shots = [];
  else if (edited) session.shots = (await ask('GET', '/shots')) || [];
  session.state = state;
  for (const listener of listeners) listener(state);
}

export async function poll() {
  await refresh();
  setTimeout(poll, 1000);
}

// Ends the session and removes its files.
export async function leave() {
  left = true;
  await ask('POST', '/leave');
  location.reload();
}

// Uploads a file with a progress bar, which fetch does not support.
export function send(kind, file, bar) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.upload.onprogress = (event) => {
      bar.max = event.total;
      bar.value = event.loaded;
    };
    request.upload.onload = () => bar.removeAttribute('value');
    request.onload = () => {
      if (request.status !== 200) showError(JSON.parse(request.response).error);
      resolve(request.status === 200);
    };
    request.onerror = () => {
      showError(`${file.name} was not uploaded: the connection was lost.`);
      resolve(false);
    };
    request.open('PUT', `/${kind}?name=${encodeURIComponent(file.name)}`);
    request.send(file);
  });
}
