'use strict';
// Memory: the plan's picture, which came with the page, and a table of all buffers; both lead to a buffer's details.
{
  const { element } = sgpage.dom;
  const { link } = sgpage.details;

  function alive({ steps }) {
    return steps.length > 1 ? `${steps[0]} to ${steps.at(-1)}` : String(steps[0] ?? 'never');
  }

  function table(program) {
    const head = ['buffer', 'type', 'place', 'offset', 'bytes', 'steps'];
    const rows = program.buffers.map((buffer, number) => element('tr', { 'data-buffer': number },
      element('td', {}, link(`#memory/buffer${number}`, buffer.name || `buffer ${number}`)),
      [buffer.type, buffer.place, buffer.place === 'arena' ? buffer.offset : '', buffer.bytes, alive(buffer)].map((text) => element('td', { text }))));
    return element('div', { class: 'scroll' }, element('table', {}, element('thead', {}, element('tr', {},
      head.map((text) => element('th', { scope: 'col', text })))), element('tbody', {}, rows)));
  }

  function tab(subject, details) {
    const figure = document.getElementById('figure').content.cloneNode(true);
    const plan = element('div', { class: 'plan scroll', tabindex: '0', 'aria-label': 'memory plan' }, figure);
    const view = element('div', { class: 'memory' }, plan, element('h2', { text: 'buffers' }), table(subject.program));
    view.addEventListener('click', (event) => {
      const at = event.target.closest('[data-buffer]');
      if (at && !event.target.closest('a')) sgpage.go(`memory/buffer${at.dataset.buffer}`);
    });
    const show = (target) => {
      const found = /^buffer(\d+)$/.exec(target), number = found ? Number(found[1]) : -1;
      view.querySelectorAll('.chosen').forEach((each) => each.classList.remove('chosen'));
      if (!subject.program.buffers[number]) {
        details.show(element('h2', { text: 'memory' }), element('p', { class: 'quiet', text: `arena: ${subject.program.arena} bytes` }));
        return;
      }
      view.querySelectorAll(`[data-buffer="${number}"]`).forEach((each) => each.classList.add('chosen'));
      details.buffer(number);
    };
    return { name: 'memory', what: 'buffers over steps', view: [view, details.panel], show };
  }

  sgpage.memory = { tab };
}
