'use strict';
// Two compiles against each other: a summary, their graphs as one, and their kernels line by line.
{
  const { element, button } = sgpage.dom;
  const SIGNS = { '+ ': 'plus', '- ': 'minus', '  ': 'both' };

  function table(head, rows) {
    return element('div', { class: 'scroll' }, element('table', {}, element('thead', {}, element('tr', {},
      head.map((text) => element('th', { scope: 'col', text })))), element('tbody', {}, rows.map((row) => element('tr',
      { class: row.differs ? 'differs' : null }, row.cells.map((text) => element('td', { text })))))));
  }

  /** Lines of both texts; long runs of lines that both have are folded. */
  function lines(all) {
    const near = all.map((_, at) => all.slice(Math.max(0, at - 3), at + 4).some((line) => !line.startsWith('  ')));
    const pre = element('pre', { class: 'source compared', tabindex: '0' });
    let folded = 0;
    const fold = () => { if (folded) pre.append(element('span', { class: 'fold', text: `⋯ ${folded} lines of both\n` })); folded = 0; };
    all.forEach((line, at) => {
      if (!near[at]) { folded += 1; return; }
      fold();
      pre.append(element('span', { class: SIGNS[line.slice(0, 2)], text: `${line}\n` }));
    });
    fold();
    return pre;
  }

  function kernel({ name, status, lines: text, calls }) {
    const count = `called ${calls[0] === calls[1] ? calls[0] : `${calls[0]}, then ${calls[1]}`} times`.replace(/\b1 times$/, 'once');
    const title = [element('span', { class: `chip ${status}`, text: status }), ` ${name} `, element('span', { class: 'quiet', text: count })];
    return status === 'same' ? element('p', {}, title)
      : element('details', { class: 'kernel', open: status === 'changed' }, element('summary', {}, title), lines(text));
  }

  function summary(data) {
    const [first, second] = data.names;
    const figures = data.figures.map((row) => ({ cells: row, differs: row[1] !== row[2] }));
    const options = data.changedOptions.map((row) => ({ cells: row }));
    const rules = data.rules.map(([stage, rule, before, after]) => ({ cells: [stage, rule, String(before), String(after)] }));
    const part = (title, content, none) => [element('h2', { text: title }), content || element('p', { class: 'quiet', text: none })];
    const count = (stage) => ['added', 'removed', 'changed', 'rewired', 'same'].map((status) => stage.status.filter((each) => each === status).length);
    return element('div', { class: 'report' }, part('graphs', table(['graph', 'added', 'removed', 'changed', 'other operands', 'the same'],
      data.stages.map((stage) => ({ cells: [stage.name, ...count(stage).map(String)] })))),
    part('figures', table(['', first, second], figures)),
    part('rules that did not fire as often', rules.length && table(['pass', 'rule', first, second], rules), 'All rules fired as often.'),
    part('options', options.length && table(['option', first, second], options), 'The same options.'),
    part('results', data.results.length && table(['', first, second], data.results.map((row) => ({ cells: row.map((cell) => cell || 'none') }))),
      'The same outputs and new values of variables.'));
  }

  /** Goes from one change to the next, in the order of the graph. */
  function changes(graph) {
    const step = (way) => {
      const found = graph.stage.nodes.filter((node) => node.status !== 'same' && graph.keysOf(node.id).length).map((node) => node.id);
      const here = Number((/\/(\d+)$/.exec(location.hash) || [])[1] ?? -1), at = found.findIndex((id) => id >= here);
      const next = way > 0 ? found.find((id) => id > here) ?? found[0] : found[(at < 0 ? found.length : at) - 1] ?? found.at(-1);
      if (next !== undefined) graph.jump(next);
    };
    const key = (kind, text) => element('span', { class: `key ${kind}`, text });
    return [button('‹ change', 'change before', () => step(-1)), button('change ›', 'next change', () => step(1), { id: 'next-change' }),
      element('span', {}, key('added', 'added'), key('removed', 'removed'), key('changed', 'changed'), key('rewired', 'other operands'))];
  }

  function tabs(data) {
    const subject = sgpage.decode.readSubject(data), details = new sgpage.details.Details(subject);
    const graph = new sgpage.GraphView(subject, details), view = [graph.view, details.panel];
    graph.bar.append(...changes(graph));
    const nothing = () => {};
    const kernels = element('div', { class: 'report' }, data.kernels.map(kernel));
    return [{ name: 'summary', view: [summary(data)], show: nothing },
      ...subject.stages.map((stage) => ({ name: stage.name, what: stage.what, bar: graph.bar, view,
        show: (target) => graph.show(stage, target), repaint: () => graph.minimap.paint() })),
      ...(data.kernels.length ? [{ name: 'kernels', what: 'their texts, line by line', view: [kernels], show: nothing }] : [])];
  }

  sgpage.difference = { tabs };
}
