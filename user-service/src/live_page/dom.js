// Elements and text. Whatever comes from a feed goes in as text, never as HTML.

export const byId = (id) => document.getElementById(id);

/** An element with properties and children; a string becomes text. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Touches the document only if the text changes. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setData(node, name, value) {
  if (node.dataset[name] !== value) node.dataset[name] = value;
}

/** Says by text why it cannot be used, beside being disabled. */
export function enable(button, enabled) {
  if (button.disabled === enabled) button.disabled = !enabled;
}

const numbers = new Intl.NumberFormat("en");

export const count = (number) => (number === null || number === undefined ? "–" : numbers.format(number));

export const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;
