// Elements of the page: creation, updates, and texts.

export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

// A button that can be on or off.
export function toggle(pressed, properties, ...children) {
  const button = element('button', properties, ...children);
  button.setAttribute('aria-pressed', pressed);
  return button;
}

// Updates a list. An item is drawn again only if its facts have changed; the
// keyboard focus stays on the element with the same id.
export function drawList(list, items, facts, draw) {
  const focus = document.activeElement && document.activeElement.id;
  const old = [...list.children];
  const nodes = items.map((item, index) => {
    const text = JSON.stringify(facts(item, index));
    if (old[index] && old[index].facts === text) return old[index];
    return Object.assign(draw(item, index), {facts: text});
  });
  if (nodes.length === old.length && nodes.every((x, i) => x === old[i])) return;
  list.replaceChildren(...nodes);
  const again = focus && document.activeElement.id !== focus && $(focus);
  if (again) again.focus();
}

// Seconds as m:ss or h:mm:ss.
export function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const two = (x) => String(x).padStart(2, '0');
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return (hours ? `${hours}:${two(minutes)}` : minutes) + `:${two(whole % 60)}`;
}
