'use strict';
// Elements of the page and of pictures. Texts are always put in as texts, never as markup.
//
// `sgpage` is the one name that the scripts share: each file adds its own part and keeps everything else to itself.
const sgpage = {};
{
  const SVG = 'http://www.w3.org/2000/svg';

  /** Set attributes (`on` holds listeners, `text` the text) and append children; null and false are left out. */
  function furnish(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (name === 'on') {
        for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
      } else if (name === 'text') {
        node.textContent = value;
      } else if (value !== null && value !== false && value !== undefined) {
        node.setAttribute(name, value === true ? '' : value);
      }
    }
    node.append(...children.flat(Infinity).filter((child) => child !== null && child !== false && child !== undefined));
    return node;
  }

  const element = (tag, attributes = {}, ...children) => furnish(document.createElement(tag), attributes, children);
  const shape = (tag, attributes = {}, ...children) => furnish(document.createElementNS(SVG, tag), attributes, children);

  const button = (text, title, action, attributes = {}) => element('button',
    { type: 'button', text, title, 'aria-label': title || text, ...attributes, on: { click: action } });

  /** Remember something between visits, where the browser lets a file do that. */
  function recall(key) {
    try { return localStorage.getItem(`staticgraph ${key}`); } catch { return null; }
  }
  function remember(key, value) {
    try { localStorage.setItem(`staticgraph ${key}`, value); } catch { /* it is only forgotten */ }
  }

  sgpage.dom = { element, shape, button, recall, remember };
}
