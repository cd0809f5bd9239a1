'use strict';
// The graph at one stage: what is open and closed, what is chosen, what was found.
{
  const { element, button } = sgpage.dom;
  const { keyOfMark, keyOfGroup } = sgpage.place;
  const START_CLOSED = 90;      // marks; what has more starts with its groups closed
  const LAID_OUT_HERE = 320;    // marks; of what has more, all of it is shown as it was laid out when the page was made
  const TYPES_SHOWN = 60;
  const FEW_STEPS = 40;

  class GraphView {
    constructor(subject, details) {
      Object.assign(this, { subject, details, states: new Map(), stage: null, chosen: null, found: new Set() });
      const { svg, inner } = sgpage.draw.frame('graph; arrow keys move it, plus and minus zoom, n and p go to the next and previous node');
      Object.assign(this, { svg, inner });
      this.camera = new sgpage.Camera(svg, inner, () => this.minimap && this.minimap.moved());
      this.minimap = new sgpage.Minimap(this.camera);
      this.search = new sgpage.search.Search({ find: (words) => this.find(words), show: (match) => this.jump(match),
        mark: (matches) => { this.found = new Set(matches); this.paint(); } });
      this.ways = element('select', { id: 'grouping', on: { change: () => this.regroup(this.ways.value) } });
      this.types = element('input', { type: 'checkbox', id: 'types', on: { change: () => this.draw() } });
      this.status = element('p', { class: 'hidden', role: 'status' });
      this.bar = element('div', { class: 'bar' }, this.search.bar,
        element('label', {}, 'group by ', this.ways),
        button('open all', 'open all groups', () => this.openAll(), { id: 'open-all' }),
        button('close all', 'close all groups', () => this.closeAll(), { id: 'close-all' }),
        element('label', { title: 'what flows, beside the arrows' }, this.types, ' types on edges'));
      this.view = element('div', { class: 'picture' }, svg, this.legend(), this.minimap.canvas, this.camera.controls(), this.status);
      svg.addEventListener('click', (event) => this.click(event));
      svg.addEventListener('dblclick', (event) => this.doubleClick(event));
      svg.addEventListener('keydown', (event) => this.key(event));
    }

    legend() {
      const { shape } = sgpage.dom;
      const entry = (role, part, text) => element('li', {}, shape('svg', { width: 26, height: 16, viewBox: '0 0 26 16', 'aria-hidden': 'true' },
        shape('g', { class: `mark ${role} ${part}` }, sgpage.draw.body({ mark: { role, part }, x: 1, y: 1, width: 24, height: 14 }))), text);
      return element('details', { class: 'legend' }, element('summary', { text: 'legend' }), element('ul', {},
        entry('op', 'forward', 'operation of the forward pass'), entry('op', 'backward', 'of the backward pass'),
        entry('op', 'update', 'of an update'), entry('input', '', 'input'), entry('variable', '', 'variable'),
        entry('constant', '', 'constant'), entry('output', '', 'output'), entry('update', '', 'new value of a variable'),
        element('li', {}, 'dashed arrow: through views, which cost nothing')));
    }

    state(stage) {
      if (!this.states.has(stage.name)) {
        const ways = stage.name === 'program' ? ['chain', 'none'] : [...(stage.kernels.length ? ['kernel'] : []), 'scope', 'none'];
        const state = { ways, way: ways[0], open: new Set(), trees: new Map(), camera: null };
        this.states.set(stage.name, state);
        const tree = this.treeOf(stage, state);
        if (stage.base <= START_CLOSED || this.isShort(stage)) tree.groups.forEach((group) => state.open.add(group.key));
        else if (stage.status) this.openChanges(stage, tree, state);
      }
      return this.states.get(stage.name);
    }

    /** A program of few steps is drawn in rows that keep to the page, even where it has many buffers. */
    isShort(stage) {
      return stage.name === 'program' && this.subject.program.steps.length <= FEW_STEPS;
    }

    /** Of two graphs in one, what differs is open, unless that is much. */
    openChanges(stage, tree, state) {
      const differs = (group) => group.marks.some((mark) => stage.nodes[mark.node].status !== 'same');
      const homes = tree.groups.filter(differs);
      if (homes.reduce((sum, group) => sum + group.marks.length, 0) > 2 * START_CLOSED) return;
      homes.flatMap((group) => sgpage.groups.around(group)).forEach((group) => state.open.add(group.key));
    }

    treeOf(stage, state) {
      if (!state.trees.has(state.way)) state.trees.set(state.way, sgpage.groups.grouped(stage, state.way));
      return state.trees.get(state.way);
    }

    get now() { return this.state(this.stage); }

    get tree() { return this.treeOf(this.stage, this.now); }

    /** Show a stage, at what the address names in it: "" | "12" (a node) | "step3" (a kernel call). */
    show(stage, target) {
      const other = this.stage !== stage;
      if (other) {
        if (this.stage) this.now.camera = { x: this.camera.x, y: this.camera.y, scale: this.camera.scale };
        this.stage = stage;
        this.ways.replaceChildren(...this.now.ways.map((way) => element('option', { value: way, text: way === 'none' ? 'nothing' : way,
          selected: way === this.now.way })));
        this.types.checked = this.now.types ?? stage.base <= TYPES_SHOWN;
        this.search.change();
        this.draw();
        if (this.now.camera) { Object.assign(this.camera, this.now.camera); this.camera.apply(); } else this.start();
      }
      this.choose(target);
    }

    choose(target) {
      const step = /^step(\d+)$/.exec(target), node = /^\d+$/.test(target) ? this.stage.nodes[Number(target)] : null;
      this.chosen = null;
      if (node && node.kind === 'step') return this.choose(`step${node.steps[0]}`);
      if (node) {
        this.chosen = { keys: this.keysOf(node.id) };
        this.details.node(this.stage, node);
        this.status.textContent = `${node.op}, ${node.type}${node.part ? `, ${node.part}` : ''}`;
        this.reveal(this.chosen.keys);
      } else if (step && this.subject.program && this.subject.program.steps[Number(step[1])]) {
        const found = this.subject.program.steps[Number(step[1])];
        const group = this.tree.groups.find((each) => each.step === found.id);
        const node = this.stage.nodes.find((each) => each.kind === 'step' && each.steps[0] === found.id);
        this.unfold(group ? sgpage.groups.around(group).slice(1) : node ? this.groupsOf(node.id) : []);
        this.chosen = { keys: group ? [keyOfGroup(group)] : node ? this.keysOf(node.id) : [] };
        this.details.kernel(this.stage, found);
        this.status.textContent = `step ${found.id}, ${found.name}`;
        this.reveal(this.chosen.keys);
      } else {
        this.details.overview(this.stage);
      }
      this.paint();
    }

    /** Keys of the marks that stand for a node; of its users, where it stands in their labels. */
    keysOf(number) {
      const marks = this.stage.marks.filter((mark) => mark.node === number && mark.role !== 'jump');
      const own = marks.filter((mark) => mark.role !== 'output' && mark.role !== 'update');
      const shown = (own.length ? own : marks).map((mark) => keyOfMark(mark.id));
      if (shown.length) return shown;
      const users = new Set(this.stage.nodes[number].users);
      return this.stage.marks.filter((mark) => mark.role === 'op' && users.has(mark.node)).map((mark) => keyOfMark(mark.id));
    }

    /** The item that is drawn for a key: its own, or the closed group around it. */
    shownFor(key) {
      if (this.items.has(key)) return key;
      const mark = /^mark (\d+)$/.exec(key);
      if (!mark) return key;
      const closed = sgpage.groups.around(this.tree.home.get(Number(mark[1]))).reverse().find((group) => !this.isOpen(group));
      return closed ? keyOfGroup(closed) : key;
    }

    isOpen(group) { return this.now.open.has(group.key); }

    /** Bring the first of the keys into sight, unless one is. */
    reveal(keys) {
      const boxes = keys.map((key) => this.items.get(this.shownFor(key))).filter(Boolean);
      if (boxes.length && !(this.camera.scale > 0.35 && boxes.some((box) => this.camera.isVisible(box)))) this.camera.show(boxes[0]);
    }

    // Groups.

    regroup(way) {
      this.now.way = way;
      if (this.stage.base <= START_CLOSED) this.tree.groups.forEach((group) => this.now.open.add(group.key));
      this.draw();
      this.start();
    }

    openAll() {
      this.tree.groups.forEach((group) => this.now.open.add(group.key));
      this.draw();
      this.start();
    }

    closeAll() {
      this.now.open.clear();
      this.draw();
      this.start();
    }

    /** Open or close a group; it stays where it was on the screen. */
    toggle(key) {
      const group = this.tree.byKey.get(key), before = this.items.get(keyOfGroup(group));
      if (this.isOpen(group)) this.now.open.delete(key);
      else this.now.open.add(key);
      this.draw();
      const after = this.items.get(keyOfGroup(group));
      if (before && after) {
        const { scale } = this.camera;
        this.camera.move((before.x + before.width / 2 - after.x - after.width / 2) * scale, (before.y - after.y) * scale);
      }
      this.status.textContent = `${group.title} ${this.isOpen(group) ? 'opened' : 'closed'}`;
    }

    start() {
      const first = this.scene.items.reduce((a, b) => b.y < a.y ? b : a, this.scene.items[0]);
      this.camera.start(this.scene, first ? first.x + first.width / 2 : 0);
    }

    // Drawing.

    /** Everything open: as the page brought it, where that shows the same boxes or there is much; else laid out here. */
    place() {
      const { stage, tree, now } = this, whole = tree.groups.every((group) => now.open.has(group.key));
      if (whole && (now.way !== 'scope' || !tree.groups.length || stage.base > LAID_OUT_HERE)) {
        const byBox = new Map(tree.groups.map((group) => [group.box, group]));
        const fixed = (box) => ({ key: `/fixed ${box}`, title: stage.kernels[box], box, step: -1, fixed: true });
        return sgpage.place.ready(stage, (box) => byBox.get(box) || fixed(box));
      }
      return sgpage.place.nested(stage, tree, now.open);
    }

    /** Say of each mark and closed group whether something of it came, went or changed. */
    paintStatus() {
      const { nodes, status } = this.stage;
      if (!status) return;
      const mark = (key, kind) => (this.elements.get(key) || []).forEach((each) => each.classList.add(kind));
      for (const item of this.items.values()) {
        const key = sgpage.place.keyOf(item);
        if (item.mark) mark(key, nodes[item.mark.node].status);
        else if (!item.open && this.changesIn(item.group)) mark(key, 'changed');
      }
    }

    changesIn(group) {
      const { nodes } = this.stage;
      return group.marks.some((mark) => nodes[mark.node].status !== 'same') || [...group.groups.values()].some((each) => this.changesIn(each));
    }

    draw() {
      const { stage } = this;
      this.now.types = this.types.checked;
      this.scene = this.place();
      this.items = new Map(this.scene.items.map((item) => [sgpage.place.keyOf(item), item]));
      const types = this.types.checked ? (path) => stage.nodes[stage.marks[path.value].node].type : null;
      Object.assign(this, sgpage.draw.draw(this.inner, this.scene, { types, tooltip: (mark) => this.tooltip(mark) }));
      this.paintStatus();
      this.camera.size = this.scene;
      this.minimap.take(this.scene);
      this.paint();
    }

    tooltip(mark) {
      const node = this.stage.nodes[mark.node], kernel = this.stage.kernels[mark.kernel];
      return [`%${node.id} ${node.op}${node.detail ? `(${node.detail})` : ''}`, node.type, node.name && `name: ${node.name}`,
        node.scope && `scope: ${node.scope}`, kernel && `kernel: ${kernel}`, node.part && `part: ${node.part}`, ...node.lines]
        .filter(Boolean).join('\n');
    }

    /** Show what is chosen and what was found. */
    paint() {
      if (!this.elements) return;
      this.inner.querySelectorAll('.chosen, .found, .hot').forEach((each) => each.classList.remove('chosen', 'found', 'hot'));
      const mark = (key, kind) => (this.elements.get(this.shownFor(key)) || []).forEach((each) => each.classList.add(kind));
      for (const number of this.found) this.keysOf(number).forEach((key) => mark(key, 'found'));
      for (const key of this.chosen ? this.chosen.keys : []) {
        mark(key, 'chosen');
        (this.touching.get(this.shownFor(key)) || []).forEach((path) => path.classList.add('hot'));
      }
      this.svg.classList.toggle('searching', this.found.size > 0);
    }

    find(words) {
      const { stage } = this;
      return stage.nodes.filter((node) => {
        const text = sgpage.search.wordsOf(stage, node);
        return words.every((word) => text.includes(word));
      }).map((node) => node.id);
    }

    /** Go to a match, opening what is around it. */
    jump(number) {
      this.unfold(this.groupsOf(number));
      sgpage.go(`${this.stage.name}/${number}`);
    }

    /** The groups around what is drawn for a node, innermost first. */
    groupsOf(number) {
      const found = /^mark (\d+)$/.exec(this.keysOf(number)[0] || '');
      return found ? sgpage.groups.around(this.tree.home.get(Number(found[1]))) : [];
    }

    /** Open these groups, if they are closed. */
    unfold(groups) {
      const closed = groups.filter((group) => !this.isOpen(group));
      if (!closed.length) return;
      closed.forEach((group) => this.now.open.add(group.key));
      this.draw();
    }

    // What people do.

    click(event) {
      const at = event.target.closest('[data-toggle], [data-node], [data-group]');
      if (!at) return sgpage.go(this.stage.name);
      if (at.dataset.toggle !== undefined) return this.toggle(at.dataset.toggle);
      if (at.dataset.node !== undefined) return sgpage.go(`${this.stage.name}/${at.dataset.node}`);
      this.pickGroup(at.dataset.group);
    }

    pickGroup(key) {
      const group = this.tree.byKey.get(key);
      if (!group) return;
      if (group.step >= 0) return sgpage.go(`${this.stage.name}/step${group.step}`);
      this.chosen = { keys: [keyOfGroup(group)], group };
      this.details.show(element('h2', { text: group.title }), element('p', { class: 'quiet', text: `${group.count} marks` }),
        button(this.isOpen(group) ? 'close' : 'open', 'open or close this group', () => { this.toggle(key); this.pickGroup(key); }),
        this.details.nodeLinks('inside', this.stage, group.marks.map((mark) => mark.node)));
      this.paint();
    }

    doubleClick(event) {
      const at = event.target.closest('[data-group]');
      if (at && !event.target.closest('[data-toggle], [data-node]') && this.tree.byKey.has(at.dataset.group)) this.toggle(at.dataset.group);
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const way = { n: 1, p: -1 }[event.key];
      if (way) this.step(way);
      else if (event.key === 'Enter' && this.chosen) this.enter();
      else if (event.key === '/') this.search.field.focus();
      else return;
      event.preventDefault();
    }

    /** To the next or previous node that is drawn, in the order of the graph. */
    step(way) {
      const drawn = [...new Set(this.stage.marks.filter((mark) => mark.role === 'op' || mark.role === 'input' || mark.role === 'variable')
        .map((mark) => mark.node))].sort((a, b) => a - b);
      const at = drawn.indexOf(Number((/\/(\d+)$/.exec(location.hash) || [])[1] ?? -1));
      sgpage.go(`${this.stage.name}/${drawn[(at + way + drawn.length) % drawn.length]}`);
    }

    /** Enter opens or closes what is chosen: a group, or the closed group that stands for it. */
    enter() {
      const key = this.shownFor(this.chosen.keys[0] || ''), group = this.tree.groups.find((each) => keyOfGroup(each) === key);
      if (group) this.toggle(group.key);
    }
  }

  sgpage.GraphView = GraphView;
}
