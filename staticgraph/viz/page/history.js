'use strict';
// The rewrite history: a slider over every pass and every application of a rule.
//
// Moments are the graph after each pass, with what the next pass takes marked, and in between each firing: what was
// there and what stands for it now, side by side, which rule, why, for which lines, and what it costs.
{
  const { element, button } = sgpage.dom;
  const { section, facts, link } = sgpage.details;
  const MOST = 60;     // marks of a fragment; a rule that matched more is shown by its root alone
  const LEAVES = new Set(['placeholder', 'variable', 'constant', 'size_of']);

  /** All moments in order, and which of them touched each node. */
  function momentsOf(past) {
    if (past.moments) return past.moments;
    past.moments = [];
    past.touched = new Map();
    past.stages.forEach((stage, at) => {
      stage.firings.forEach((firing, index) => {
        const number = past.moments.push({ kind: 'firing', stage, at, firing, index }) - 1;
        const touch = (node, made) => past.touched.set(node, [...(past.touched.get(node) || []), { number, moment: past.moments[number], made }]);
        new Set([firing.result, ...firing.added]).forEach((node) => touch(node, true));
        new Set([firing.node, ...firing.matched]).forEach((node) => touch(node, false));
      });
      past.moments.push({ kind: 'pass', stage, at });
    });
    return past.moments;
  }

  function touching(past, node) {
    momentsOf(past);
    return past.touched.get(node) || [];
  }

  /** The nodes of one side of a firing: those it is about, and what they read. */
  function fragment(past, about) {
    const seen = new Set(about);
    for (const number of about) past.nodes[number].inputs.forEach((each) => seen.add(each));
    return { about, nodes: [...seen].sort((a, b) => a - b).map((number) => past.nodes[number]) };
  }

  /** Nodes that a firing is about. */
  const wasThere = ({ node, matched }) => new Set([node, ...matched].slice(0, MOST));

  /** What stands for it now: the new nodes, and old ones on the way from there to what was read before. */
  function isThere(past, { result, added }, old) {
    const ends = new Set([...old].flatMap((number) => past.nodes[number].inputs).filter((number) => !old.has(number)));
    const found = new Set([result]);
    for (const number of found) {
      if (ends.has(number)) continue;
      for (const input of past.nodes[number].inputs) {
        if (!ends.has(input) && !LEAVES.has(past.nodes[input].op)) found.add(input);
      }
      if (found.size > MOST / 2) return new Set([result, ...added].slice(0, MOST));
    }
    return ends.has(result) ? new Set([result]) : new Set([...found, ...added.slice(0, MOST)]);
  }

  const { LETTER, clip } = sgpage.place;

  function markOf(node, id) {
    const leaf = LEAVES.has(node.op), detail = clip(node.detail, 24);
    const label = node.op === 'constant' || node.op === 'size_of' ? detail || node.op : leaf ? clip(node.name || node.op, 30)
      : detail ? `${node.op}(${detail})` : node.op;
    const role = { placeholder: 'input', size_of: 'constant' }[node.op] || (leaf ? node.op : 'op');
    return { id, role, label, detail: node.type, node: node.id, part: '',
      width: Math.max(label.length * LETTER.title, node.type.length * LETTER.detail) + 22, height: 36 };
  }

  /** A fragment as a small stage that the layout takes. Numbers are drawn at each of their readers. */
  function smallStage(past, { about, nodes }, joined = false) {
    const marks = [], arrows = [], markFor = new Map();
    const add = (node) => marks.push({ ...markOf(node, marks.length), kernel: joined && about.has(node.id) ? 0 : -1 }) - 1;
    for (const node of nodes) if (about.has(node.id) || !LEAVES.has(node.op)) markFor.set(node.id, add(node));
    for (const number of about) {
      const node = past.nodes[number];
      node.inputs.forEach((input, at) => {
        const source = markFor.has(input) ? markFor.get(input) : add(past.nodes[input]);
        if (source !== markFor.get(number)) arrows.push({ source, target: markFor.get(number), order: node.inputs.length > 1 ? at + 1 : 0, folded: [] });
      });
    }
    return { nodes: past.nodes, marks, arrows, base: marks.length, kernels: ['one kernel'] };
  }

  /** Fusion changes no node: it puts some that are there into one kernel. */
  const joins = (firing) => firing.node === firing.result && !firing.added.length;

  class Picture {
    /** `pick` is told the node of a mark that is clicked. */
    constructor(label, pick) {
      const { svg, inner } = sgpage.draw.frame(label);
      svg.addEventListener('click', (event) => {
        const at = event.target.closest('[data-node]');
        if (at) pick(Number(at.dataset.node));
      });
      Object.assign(this, { svg, inner, camera: new sgpage.Camera(svg, inner) });
      this.view = element('div', { class: 'picture' }, svg, this.camera.controls());
    }

    draw(scene, nodes, kinds) {
      const tooltip = (mark) => { const node = nodes[mark.node];
        return [`%${node.id} ${node.op}`, node.type, node.detail, ...node.lines].filter(Boolean).join('\n'); };
      sgpage.draw.draw(this.inner, scene, { tooltip });
      this.inner.querySelectorAll('[data-node]').forEach((each) => {
        const kind = kinds(Number(each.dataset.node));
        if (kind) each.classList.add(kind);
      });
      const first = scene.items.reduce((a, b) => b.y < a.y ? b : a, scene.items[0]);
      this.camera.start(scene, first ? first.x + first.width / 2 : 0);
    }
  }

  class HistoryView {
    constructor(subject, details) {
      Object.assign(this, { subject, past: subject.past, details, moments: momentsOf(subject.past) });
      this.slider = element('input', { type: 'range', id: 'moment', min: 0, max: 0, value: 0, 'aria-label': 'moment of the history',
        on: { input: () => this.goTo(this.listed[Number(this.slider.value)]) } });
      this.counter = element('span', { class: 'count', role: 'status' });
      this.filter = element('select', { id: 'rule', 'aria-label': 'rule', on: { change: () => this.choose() } });
      this.bar = element('div', { class: 'bar past' }, button('‹', 'moment before (left arrow)', () => this.move(-1), { id: 'before' }),
        this.slider, button('›', 'next moment (right arrow)', () => this.move(1), { id: 'after' }), this.counter,
        element('label', {}, 'rule ', this.filter));
      this.bar.addEventListener('keydown', (event) => this.key(event));
      const pick = (number) => this.pick(number);
      this.before = new Picture('before', pick);
      this.after = new Picture('after', pick);
      this.whole = new Picture('the graph after this pass', pick);
      this.head = element('div', { class: 'moment' });
      this.sides = element('div', { class: 'sides' },
        element('figure', {}, element('figcaption', { text: 'before' }), this.before.view),
        element('figure', {}, element('figcaption', { text: 'after' }), this.after.view));
      this.alone = element('figure', {}, this.caption = element('figcaption'), this.whole.view);
      this.view = element('div', { class: 'history' }, this.head, this.sides, this.alone);
      this.view.addEventListener('keydown', (event) => this.key(event));
      this.fillFilter();
      this.listed = this.moments.map((_, number) => number);
    }

    fillFilter() {
      const counts = new Map();
      for (const { firing } of this.moments) if (firing) counts.set(firing.rule, (counts.get(firing.rule) || 0) + 1);
      const firings = this.moments.filter((moment) => moment.kind === 'firing').length;
      this.filter.append(element('option', { value: '', text: `all (${firings})` }), element('option', { value: ' passes', text: 'passes only' }),
        ...[...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).map(([rule, count]) => element('option', { value: rule, text: `${rule} (${count})` })));
    }

    choose() {
      const rule = this.filter.value;
      this.listed = this.moments.map((_, number) => number).filter((number) => {
        const { kind, firing } = this.moments[number];
        return !rule || (rule === ' passes' ? kind === 'pass' : kind === 'firing' && firing.rule === rule);
      });
      this.goTo(this.listed.find((number) => number >= this.number) ?? this.listed.at(-1));
    }

    goTo(number) { if (number !== undefined) sgpage.go(`history/${number}`); }

    move(way) {
      const at = this.listed.findIndex((number) => number >= this.number);
      const here = at < 0 ? this.listed.length : at;
      const next = way > 0 && this.listed[here] !== this.number ? here : here + way;
      this.goTo(this.listed[Math.max(0, Math.min(this.listed.length - 1, next))]);
    }

    key(event) {
      if (event.target === this.slider || event.target === this.filter || event.target.closest('svg')) {
        if (event.key !== 'n' && event.key !== 'p') return;
      }
      const way = { ArrowLeft: -1, ArrowRight: 1, p: -1, n: 1 }[event.key];
      if (!way) return;
      event.preventDefault();
      this.move(way);
    }

    show(target) {
      const asked = /^\d+$/.test(target) ? Number(target) : 0;
      this.number = Math.min(asked, this.moments.length - 1);
      const moment = this.moments[this.number], at = this.listed.indexOf(this.number);
      if (at < 0) {
        this.filter.value = '';
        this.listed = this.moments.map((_, number) => number);
      }
      this.slider.max = this.listed.length - 1;
      this.slider.value = this.listed.indexOf(this.number);
      const text = moment.kind === 'pass' ? `after ${moment.stage.name}` : `${moment.stage.name}: ${moment.firing.rule}`;
      this.slider.setAttribute('aria-valuetext', text);
      this.counter.textContent = `${Number(this.slider.value) + 1} of ${this.listed.length}`;
      this.sides.hidden = moment.kind === 'pass';
      this.alone.hidden = moment.kind !== 'pass';
      if (moment.kind === 'pass') this.showPass(moment);
      else this.showFiring(moment);
    }

    /** Each pass with the number of its firings: also a table of contents. */
    passes(shown) {
      return element('ol', { class: 'passes' }, this.past.stages.map((stage) => {
        const number = this.moments.findIndex((moment) => moment.kind === 'pass' && moment.stage === stage);
        return element('li', {}, element('a', { href: `#history/${number}`, title: stage.what, 'aria-current': stage === shown ? 'step' : null,
          text: stage.firings.length ? `${stage.name} ${stage.firings.length}` : stage.name }));
      }));
    }

    showFiring({ firing, stage, index }) {
      this.head.replaceChildren(this.passes(stage), element('h2', {}, firing.rule,
        element('span', { class: 'quiet', text: `  ${stage.name}, ${index + 1} of ${stage.firings.length}` })),
      element('p', { text: firing.why }), element('p', { class: 'change' }, ...this.change(firing)));
      const { past } = this;
      const old = wasThere(firing), made = new Set([firing.result, ...firing.added]);
      for (const [picture, root, about] of [[this.before, firing.node, old], [this.after, firing.result, joins(firing) ? old : isThere(past, firing, old)]]) {
        const small = smallStage(past, fragment(past, about), picture === this.after && joins(firing));
        const tree = sgpage.groups.grouped(small, 'kernel');
        tree.groups.forEach((group) => { group.fixed = true; });
        const scene = sgpage.place.nested(small, tree, new Set(tree.groups.map((group) => group.key)));
        const isNew = (number) => picture === this.before ? about.has(number) : made.has(number);
        picture.draw(scene, past.nodes, (number) => number === root ? 'root' : isNew(number) ? 'about' : about.has(number) ? '' : 'around');
      }
      this.tell(firing);
    }

    /** What it cost and what it costs, as far as both are known. */
    change(firing) {
      const { before, after } = firing;
      if (joins(firing)) return [element('span', { class: 'quiet', text: 'what goes between them does not go through memory' })];
      const row = (name, old, now) => old === now ? null : element('span', { class: 'delta' }, `${name} ${old} → ${now}`);
      const found = [row('nodes', before.nodes, after.nodes), row('flops', before.flops, after.flops), row('bytes', before.bytes, after.bytes)];
      return found.some(Boolean) ? found.filter(Boolean) : [element('span', { class: 'quiet', text: 'costs the same' })];
    }

    tell(firing) {
      const { past, details } = this;
      const name = (number) => { const node = past.nodes[number]; return [element('code', { text: `%${number} ${node.op}` }),
        element('span', { class: 'type', text: ` ${node.type}` }), node.detail ? ` ${clip(node.detail, 60)}` : null, this.inStages(number)]; };
      details.show(element('h2', { text: firing.rule }), element('p', { text: firing.why }), details.lines(firing.lines),
        section(joins(firing) ? 'in one kernel' : 'what was there', [...new Set([firing.node, ...firing.matched])].slice(0, MOST).map(name)),
        joins(firing) ? null : section('what stands for it', [...new Set([firing.result, ...firing.added])].slice(0, MOST).map(name)),
        joins(firing) ? null : facts([['flops before', firing.before.flops], ['flops after', firing.after.flops],
          ['bytes before', firing.before.bytes], ['bytes after', firing.after.bytes]]));
    }

    /** To a node in the graph as it was built, else in the one after all passes; nodes in between are in neither. */
    pick(number) {
      const found = this.subject.stages.flatMap((stage) => stage.nodes.filter((node) => node.past === number).map((node) => [stage, node]))[0];
      if (found) sgpage.go(`${found[0].name}/${found[1].id}`);
    }

    /** Links to a node in the graphs that it is part of. */
    inStages(number) {
      return this.subject.stages.flatMap((stage) => {
        const found = stage.nodes.find((node) => node.past === number);
        return found ? [' ', link(`#${stage.name}/${found.id}`, stage.name, 'small')] : [];
      });
    }

    showPass({ stage, at }) {
      const title = at ? `after ${stage.name}` : 'before all passes';
      const { past, details } = this, next = past.stages.slice(at + 1).find((each) => each.firings.length);
      const taken = new Set(next ? next.firings.flatMap((firing) => [firing.node, ...firing.matched]) : []);
      const made = new Set(stage.firings.flatMap((firing) => [firing.result, ...firing.added]));
      this.head.replaceChildren(this.passes(stage), element('h2', {}, title), element('p', { text: stage.what }),
        element('p', { class: 'quiet', text: stage === past.stages.at(-1) && stage.cost.nodes !== stage.order.length ? `${stage.cost.nodes} kernel calls: ${stage.cost.flops} flops, ${stage.cost.bytes} bytes`
          : `${stage.cost.nodes} nodes; if each had a kernel of its own: ${stage.cost.flops} flops, ${stage.cost.bytes} bytes` }));
      this.caption.replaceChildren(stage.firings.length ? element('span', { class: 'key made', text: `made by ${stage.name}` }) : '', ' ',
        next ? element('span', { class: 'key taken', text: `taken by ${next.name}` }) : '');
      const picture = past.stages.slice(0, at + 1).reverse().find((each) => each.picture).picture;
      this.whole.draw(sgpage.place.ready({ ...picture, boxes: [] }, () => null), past.nodes,
        (number) => [taken.has(number) ? 'taken' : made.has(number) ? 'made' : ''].find(Boolean));
      const counts = new Map();
      for (const firing of stage.firings) counts.set(firing.rule, { why: firing.why, count: (counts.get(firing.rule)?.count || 0) + 1 });
      const first = (rule) => this.moments.findIndex((moment) => moment.kind === 'firing' && moment.stage === stage && moment.firing.rule === rule);
      details.show(element('h2', { text: title }), element('p', { text: stage.what }),
        section('what fired', [...counts].map(([rule, { why, count }]) => [link(`#history/${first(rule)}`, rule), ` ${count === 1 ? 'once' : `${count} times`}: ${why}`])),
        counts.size ? null : element('p', { class: 'quiet', text: 'Nothing was exchanged here.' }));
    }
  }

  function tab(subject, details) {
    const view = new HistoryView(subject, details);
    return { name: 'history', what: 'every pass and every application of a rule', bar: view.bar, view: [view.view, details.panel],
      show: (target) => view.show(target) };
  }

  sgpage.history = { tab, touching, smallStage, Picture };
}
