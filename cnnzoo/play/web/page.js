// What both pages share: language, theme, and small helpers for the document.

import { WORDS } from "./words.js";

const KEY = "cnnzoo.language";
const listeners = new Set();
const colors = new Map();

function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // a browser that keeps nothing
  }
}

function wanted() {
  const asked = new URLSearchParams(location.search).get("lang") ?? remembered() ?? navigator.language ?? "en";
  return asked.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export let language = wanted();

/** The text of a key in the language of the page, with its {names} filled in. */
export function t(key, values = {}) {
  const text = WORDS[language][key];
  if (text === undefined) throw new Error(`no text for ${key} in ${language}`);
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Calls `listener` when language or colours have changed. */
export const onChange = (listener) => listeners.add(listener);

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", t(node.dataset.label));
  document.title = `${t(document.documentElement.dataset.title)} · cnnzoo`;
}

function changed() {
  colors.clear();
  translate();
  for (const listener of listeners) listener();
}

/** Translates the page and wires the switch in its header. */
export function begin() {
  document.getElementById("language").addEventListener("click", () => {
    language = language === "zh" ? "en" : "zh";
    try {
      localStorage.setItem(KEY, language);
    } catch {
      // remembered until the page is closed
    }
    changed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  translate();
}

/** An element: attributes, `on...` listeners, `data` and properties of `style` by name. */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name === "style") for (const [property, one] of Object.entries(value)) node.style.setProperty(property, one);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A number for people, with a true minus sign. */
export const number = (value, digits = 2) => {
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? `−${text}` : text;
};

export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** A colour of the style sheet, as the canvas wants it. */
export function color(name) {
  if (!colors.has(name)) colors.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  return colors.get(name);
}
