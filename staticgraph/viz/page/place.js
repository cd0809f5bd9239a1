'use strict';
// Where things go, in two ways that give the same kind of scene.
//
// `ready` takes the places that were computed when the page was made: of everything, at once, however large.
// `nested` lays out what is visible now, with dagre: each open group on its own, with a port at its upper edge for each
// value that it reads and one at its lower edge for each that it passes on, then as a box in the group around it.
//
// A scene: { items: [{ mark | group, open, x, y, width, height }], paths: [{ points, source, target, order, dashed,
// label }], width, height }. x and y are corners; `source` and `target` are items' keys, "" for a group's edge.
{
  const PADDING = 14;
  const TITLE = 26;
  const PORTS_APART = 9;
  const SHORT = 60;
  const MOST_READERS = 12;      // of an input, a variable or a constant: arrows to more are not drawn, but counted
  const GAPS = { nodesep: 22, ranksep: 34, edgesep: 14, marginx: 0, marginy: 0 };
  const LETTER = { title: 7.0, closed: 7.6, detail: 6.1, label: 5.8 };

  const LEAVES = ['input', 'variable', 'constant'];

  const keyOfMark = (mark) => `mark ${mark}`;
  const keyOfGroup = (group) => `group ${group.key}`;
  const keyOf = (item) => item.mark ? keyOfMark(item.mark.id) : keyOfGroup(item.group);

  /** The scene of a picture that was laid out when the page was made. */
  function ready(picture, groupOfBox) {
    const items = picture.boxes.map((box) => ({ group: groupOfBox(box.number), open: true, x: box.x, y: box.y,
      width: box.width, height: box.height }));
    for (const mark of picture.marks) items.push({ mark, x: mark.x, y: mark.y, width: mark.width, height: mark.height });
    const paths = picture.paths.map((path) => ({ ...path, source: keyOfMark(path.source), value: path.source,
      target: path.target < 0 ? '' : keyOfMark(path.target), label: '' }));
    return { items, paths, width: picture.width, height: picture.height };
  }

  const WIDEST_TITLE = 42;
  const clip = (text, most) => text.length > most ? `${text.slice(0, Math.max(most - 1, 1))}…` : text;
  const shortTitle = (group) => clip(group.title, WIDEST_TITLE);

  /** What a closed group is drawn as. */
  function closedSize(group) {
    return { width: Math.max(shortTitle(group).length * LETTER.closed + 60, 110), height: 44 };
  }

  class Nested {
    constructor(stage, tree, open) {
      this.stage = stage;
      this.tree = tree;
      this.open = open;
      this.levels = new Map();
      this.visible = new Map();     // a mark's number: what is drawn for it
      this.parent = new Map();      // a key: the group that it is drawn in
      this.item = new Map();
      this.collectItems(tree.root);
      const apart = this.readEverywhere();
      for (const arrow of stage.arrows) if (!apart.has(arrow.source)) this.route(arrow);
    }

    /** Leaves whose arrows would lie over everything else. */
    readEverywhere() {
      const readers = new Map();
      for (const { source, target } of this.stage.arrows) {
        const item = this.visible.get(source);
        if (!item.mark || !LEAVES.includes(item.mark.role)) continue;
        readers.set(source, (readers.get(source) || new Set()).add(this.visible.get(target)));
      }
      const apart = [...readers].filter(([, found]) => found.size > MOST_READERS);
      for (const [source, found] of apart) this.visible.get(source).readers = found.size;
      return new Set(apart.map(([source]) => source));
    }

    collectItems(group) {
      this.levels.set(group, { children: [], enters: new Map(), leaves: new Map(), links: new Map() });
      for (const child of group.groups.values()) {
        const item = { group: child, open: this.open.has(child.key) };
        this.adopt(group, item);
        if (item.open) this.collectItems(child);
        else this.hide(child, item);
      }
      for (const mark of group.marks) {
        const item = { mark, width: mark.width, height: mark.height };
        this.adopt(group, item);
        this.visible.set(mark.id, item);
      }
    }

    adopt(group, item) {
      const key = keyOf(item);
      this.levels.get(group).children.push(item);
      this.parent.set(key, group);
      this.item.set(key, item);
      if (item.group && !item.open) Object.assign(item, closedSize(item.group));
    }

    hide(group, item) {
      for (const mark of group.marks) this.visible.set(mark.id, item);
      for (const child of group.groups.values()) this.hide(child, item);
    }

    /** An arrow as links of the levels that it goes through; links that are there already are shared. */
    route(arrow) {
      const source = this.visible.get(arrow.source), target = this.visible.get(arrow.target);
      if (source === target) return;
      const value = keyOf(source), up = this.chain(source), down = this.chain(target);
      while (up.length > 1 && down.length > 1 && up.at(-2) === down.at(-2)) { up.pop(); down.pop(); }
      let from = value;
      for (const group of up.slice(0, -1)) {
        this.link(group, value, from, this.port(group, 'leaves', value), arrow);
        from = keyOfGroup(group);
      }
      let to = keyOf(target);
      const ends = { target: to, order: source.mark && target.mark ? arrow.order : 0 };
      for (const group of down.slice(0, -1)) {
        this.link(group, value, this.port(group, 'enters', value), to, arrow, to === ends.target ? ends : {});
        to = keyOfGroup(group);
      }
      this.link(up.at(-1), value, from, to, arrow, to === ends.target ? ends : {});
    }

    chain(item) {
      const found = [];
      for (let group = this.parent.get(keyOf(item)); group; group = group.parent) found.push(group);
      return found;
    }

    port(group, side, value) {
      const key = `${side} ${value}`;
      this.levels.get(group)[side].set(value, key);
      return key;
    }

    link(group, value, from, to, arrow, { target = '', order = 0 } = {}) {
      const { links } = this.levels.get(group), name = `${value}\n${from}\n${to}`;
      const link = links.get(name) || { value, from, to, target, order, dashed: arrow.folded.length > 0, values: new Set() };
      link.values.add(arrow.source);
      links.set(name, link);
    }

    label(link) {
      const source = this.item.get(link.value);
      if (source.mark || link.from !== link.value) return '';
      if (link.values.size > 1) return `${link.values.size} values`;
      return this.stage.nodes[this.stage.marks[[...link.values][0]].node].type;
    }

    /** Lay out one level; those inside of it first. Sizes and inner places are left in the items. */
    layOut(group) {
      const level = this.levels.get(group);
      for (const item of level.children) if (item.group && item.open) this.layOut(item.group);
      const graph = new dagre.graphlib.Graph({ multigraph: true });
      graph.setGraph({ ...GAPS, ranker: level.children.length > 400 ? 'tight-tree' : 'network-simplex' });
      for (const item of level.children) {
        if (item.group && item.open) Object.assign(item, this.boxSize(item));
        graph.setNode(keyOf(item), { width: item.width, height: item.height + (item.readers ? 12 : 0) });
      }
      this.addPorts(graph, level);
      for (const [name, link] of level.links) {
        const text = this.label(link), width = text.length * LETTER.label;
        graph.setEdge(link.from, link.to, { minlen: 1, weight: link.target ? 2 : 1, labelpos: 'c',
          width: text ? width : 0, height: text ? 12 : 0 }, name);
      }
      dagre.layout(graph);
      this.readBack(graph, level);
    }

    boxSize(item) {
      const level = this.levels.get(item.group);
      return { width: Math.max(level.width + 2 * PADDING, shortTitle(item.group).length * LETTER.title + 48),
        height: level.height + TITLE + PADDING };
    }

    /** Ports stand alone in the first and last row: everything else is held off by ends that are not drawn. */
    addPorts(graph, level) {
      if (!level.enters.size && !level.leaves.size) return;
      const fed = new Set(), read = new Set();
      for (const link of level.links.values()) { fed.add(link.to); read.add(link.from); }
      graph.setNode('^', { width: 0, height: 0 });
      graph.setNode('$', { width: 0, height: 0 });
      for (const key of level.enters.values()) graph.setNode(key, { width: 6, height: 1 });
      for (const key of level.leaves.values()) graph.setNode(key, { width: 6, height: 1 });
      for (const key of level.enters.values()) graph.setEdge('^', key, { minlen: 1, weight: 60 });
      for (const key of level.leaves.values()) graph.setEdge(key, '$', { minlen: 1, weight: 60 });
      for (const item of level.children) {
        const key = keyOf(item);
        if (!fed.has(key)) graph.setEdge('^', key, { minlen: 2, weight: 0 });
        if (!read.has(key)) graph.setEdge(key, '$', { minlen: 2, weight: 0 });
      }
    }

    /** Inner places with their least corner at 0, 0; the ends that were only there for the ports do not count. */
    readBack(graph, level) {
      const shown = graph.nodes().filter((key) => key !== '^' && key !== '$').map((key) => graph.node(key));
      const rests = [...level.links].map(([name, link]) => graph.edge(link.from, link.to, name).points);
      const start = Math.min(...shown.map((node) => node.x - node.width / 2), ...rests.flat().map((point) => point.x));
      const stop = Math.max(...shown.map((node) => node.x + node.width / 2), ...rests.flat().map((point) => point.x));
      const texts = [...level.links].map(([name, link]) => [graph.edge(link.from, link.to, name), this.label(link).length * LETTER.label / 2])
        .filter(([, half]) => half);
      const left = Math.min(start, ...texts.map(([edge, half]) => edge.x - half));
      const right = Math.max(stop, ...texts.map(([edge, half]) => edge.x + half));
      const top = Math.min(...shown.map((node) => node.y - node.height / 2));
      const foot = Math.max(...shown.map((node) => node.y + node.height / 2));
      Object.assign(level, { width: shown.length ? right - left : 0, height: shown.length ? foot - top : 0 });
      for (const item of level.children) {
        const { x, y } = graph.node(keyOf(item));
        item.inner = { x: x - left - item.width / 2, y: y - top - item.height / 2 };
      }
      for (const [name, link] of level.links) {
        const edge = graph.edge(link.from, link.to, name), bends = edge.points.map(({ x, y }) => [x - left, y - top]);
        const text = this.label(link);
        // The bend in the middle is for a text, or leads around higher boxes of the same row.
        link.bends = bends.length === 3 && !text && Math.abs(bends[2][1] - bends[0][1]) < SHORT ? [bends[0], bends[2]] : bends;
        link.at = text ? [edge.x - left, edge.y - top] : null;
      }
      level.ports = new Map([...this.spread(level, level.enters), ...this.spread(level, level.leaves)]);
      level.width = Math.max(level.width, ...level.ports.values());
    }

    /** Ports above what they lead to, or below what leads there, but apart from each other. */
    spread(level, ports) {
      const wanted = new Map([...ports.values()].map((key) => [key, []]));
      for (const { from, to, bends } of level.links.values()) {
        if (wanted.has(from)) wanted.get(from).push(bends[1][0]);
        if (wanted.has(to)) wanted.get(to).push(bends.at(-2)[0]);
      }
      const mean = (values) => values.reduce((sum, value) => sum + value, 0) / Math.max(values.length, 1);
      let last = -Infinity;
      return [...wanted].map(([key, values]) => [key, mean(values)]).sort((a, b) => a[1] - b[1] || (a[0] < b[0] ? -1 : 1))
        .map(([key, x]) => [key, last = Math.max(x, last + PORTS_APART)]);
    }

    /** From inner places to places in the picture. */
    scene() {
      this.layOut(this.tree.root);
      const items = [], paths = [], root = this.levels.get(this.tree.root);
      this.put(this.tree.root, 0, 0, items);
      this.draw(this.tree.root, 0, 0, root.height, paths);
      return { items, paths, width: root.width, height: root.height };
    }

    put(group, x, y, items) {
      for (const item of this.levels.get(group).children) {
        Object.assign(item, { x: x + item.inner.x, y: y + item.inner.y });
        items.push(item);
        if (item.group && item.open) {
          const [left, top] = this.inset(item);
          this.put(item.group, left, top, items);
        }
      }
    }

    inset(item) {
      return [item.x + (item.width - this.levels.get(item.group).width) / 2, item.y + TITLE];
    }

    draw(group, x, y, height, paths) {
      const level = this.levels.get(group);
      for (const link of level.links.values()) {
        const bends = link.bends.map(([a, b]) => [a + x, b + y]);
        const upwards = bends.at(-1)[1] < bends[0][1];     // a cycle of groups: as dagre has it
        const ends = [this.end(level, link.from, link.value, true, bends[0], x, y - TITLE),
          this.end(level, link.to, link.value, false, bends.at(-1), x, y + height + PADDING)];
        const points = upwards ? bends : [...ends[0], ...bends.slice(1, -1), ...ends[1]];
        const values = [...link.values];
        paths.push({ points, source: link.value, target: link.target, order: link.order, dashed: link.dashed,
          label: this.label(link), at: link.at && [link.at[0] + x, link.at[1] + y], value: values[0], values });
      }
      for (const item of level.children) {
        if (!item.group || !item.open) continue;
        const [left, top] = this.inset(item);
        this.draw(item.group, left, top, this.levels.get(item.group).height, paths);
      }
    }

    /** Where a link begins or ends: at a mark, at an open group's port, or at the edge around through a port of its own. */
    end(level, key, value, leaving, bend, x, edge) {
      const item = this.item.get(key);
      if (!item) {
        const port = [x + level.ports.get(key), bend[1]];
        return leaving ? [[port[0], edge], port] : [port, [port[0], edge]];
      }
      const side = leaving ? item.y + item.height : item.y;
      if (!item.group || !item.open) return [[item.x + item.width / 2, side]];
      const inner = this.levels.get(item.group);
      const port = inner.ports.get((leaving ? inner.leaves : inner.enters).get(value));
      return [[this.inset(item)[0] + port, side]];
    }
  }

  const nested = (stage, tree, open) => new Nested(stage, tree, open).scene();

  sgpage.place = { ready, nested, keyOf, keyOfMark, keyOfGroup, clip, shortTitle, LETTER };
}
