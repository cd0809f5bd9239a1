'use strict';
// A scene as SVG: boxes of open groups below, then paths, then marks and closed groups.
//
// What belongs to which part is said by colour and by shape. All colours are in the style sheet.
{
  const { shape } = sgpage.dom;
  const { keyOf, clip, shortTitle, LETTER } = sgpage.place;
  const GOLDEN = 137.508;
  const SIGNS = { update: '⟳ ', jump: '↧ ' };

  const round = (value) => Math.round(value * 10) / 10;

  /** Straight where it goes straight down, else a curve that leaves and arrives vertically. */
  function curve(points) {
    let [x, y] = points[0], text = `M${round(x)} ${round(y)}`;
    for (const [a, b] of points.slice(1)) {
      if (Math.abs(a - x) < 0.5 && Math.abs(b - y) < 0.5) continue;     // an end without a direction has no arrowhead
      const middle = round((y + b) / 2);
      text += Math.abs(a - x) < 0.5 ? `L${round(a)} ${round(b)}`
        : `C${round(x)} ${middle} ${round(a)} ${middle} ${round(a)} ${round(b)}`;
      [x, y] = [a, b];
    }
    return text;
  }

  const SLANT = 8;

  /** Operations of a part, as in the other pictures: backward pointed at both ends, update slanted, mixed in between. */
  function slanted(part, { x, y, width, height }) {
    const slant = Math.min(SLANT, height / 3), right = x + width, foot = y + height, middle = y + height / 2;
    const ahead = [[right - slant, y], [right, middle], [right - slant, foot]];
    const points = part === 'update' ? [[x + slant, y], [right, y], [right - slant, foot], [x, foot]]
      : part === 'mixed' ? [[x, y], ...ahead, [x, foot]] : [[x, middle], [x + slant, y], ...ahead, [x + slant, foot]];
    return shape('path', { class: 'body', d: `M${points.map((point) => point.map(round).join(' ')).join('L')}Z` });
  }

  const rectangle = (box, radius, grow = 0) => shape('rect', { class: 'body', x: round(box.x - grow), y: round(box.y - grow),
    width: round(box.width + 2 * grow), height: round(box.height + 2 * grow), rx: radius });

  function body(item) {
    const { mark } = item;
    if (mark.role !== 'op') {
      return [rectangle(item, mark.role === 'variable' || mark.role === 'constant' ? 0 : item.height / 2)];
    }
    if (['backward', 'update', 'mixed'].includes(mark.part)) return [slanted(mark.part, item)];
    return [rectangle(item, 4)];
  }

  const text = (x, y, content, kind) => shape('text', { class: kind, x: round(x), y: round(y), text: content });

  function drawMark(item, tooltip) {
    const { mark } = item, middle = item.x + item.width / 2, details = mark.detail ? mark.detail.split('\n') : [];
    const top = item.y + item.height / 2 + 4 - 7 * details.length;
    const texts = [text(middle, top, (SIGNS[mark.role] || '') + mark.label, 'label'),
      ...details.map((detail, at) => text(middle, top + 14 * (at + 1) - 1, detail, 'type'))];
    return shape('g', { class: `mark ${mark.role} ${mark.part}`, 'data-key': keyOf(item), 'data-node': mark.node },
      shape('title', { text: tooltip(mark) }), body(item), texts,
      item.readers ? text(middle, item.y + item.height + 11, `read by ${item.readers}`, 'type readers') : null);
  }

  function hueOf(group, element) {
    if (group.box >= 0) element.style.setProperty('--hue', String(Math.round(209 + group.box * GOLDEN) % 360));
    return element;
  }

  function groupClass(group, open) {
    const part = group.key.startsWith('/backward') ? 'backward' : group.key.startsWith('/update') ? 'update' : '';
    return `group ${open ? 'open' : 'closed'} ${group.box >= 0 ? 'kernel' : 'scope'} ${part}`;
  }

  function drawClosed(item) {
    const { group } = item, middle = item.x + item.width / 2;
    const frame = group.key.startsWith('/backward') ? slanted('backward', item) : rectangle(item, 8);
    return hueOf(group, shape('g', { class: groupClass(group, false), 'data-key': keyOf(item), 'data-group': group.key },
      shape('title', { text: `${group.title}: ${group.count} marks. Double-click or Enter opens it.` }),
      rectangle({ ...item, x: item.x + 4, y: item.y + 4 }, 8), frame,
      text(middle - 8, item.y + 19, shortTitle(group), 'label'),
      text(middle, item.y + 35, `${group.count} ${group.count === 1 ? 'mark' : 'marks'}`, 'type'),
      toggle(item, group, '+')));
  }

  function toggle(item, group, sign) {
    const x = item.x + item.width - 14, y = item.y + 13;
    return shape('g', { class: 'toggle', 'data-toggle': group.key },
      shape('title', { text: sign === '+' ? 'open' : 'close' }),
      shape('circle', { cx: round(x), cy: round(y), r: 8 }), text(x, y + 4, sign, 'sign'));
  }

  function drawOpen(item) {
    const { group } = item;
    return hueOf(group, shape('g', { class: groupClass(group, true), 'data-key': keyOf(item), 'data-group': group.key },
      shape('title', { text: group.title }), rectangle(item, 8)));
  }

  /** Titles lie above the paths that enter their box. From far away they grow, up to the width of their box. */
  function drawTitle(item) {
    const { group } = item, shown = clip(group.title, Math.floor((item.width - 34) / LETTER.title));
    const title = text(item.x + 9, item.y + 17, shown, 'title');
    title.style.setProperty('--most', `${round(Math.max(11, (item.width - 40) / Math.max(shown.length, 1) / 0.62))}px`);
    title.style.setProperty('--tall', `${round(Math.max(11, item.height * 0.5))}px`);
    return hueOf(group, shape('g', { class: groupClass(group, true), 'data-key': keyOf(item), 'data-group': group.key },
      title, group.fixed ? null : toggle(item, group, '−')));
  }

  function drawPath(path) {
    return shape('path', { class: path.dashed ? 'path dashed' : 'path', d: curve(path.points), 'data-source': path.source,
      'data-target': path.target, 'marker-end': path.target ? 'url(#arrowhead)' : null });
  }

  /** Beside the longest way down of a path; nowhere where there is no room. */
  function besideOf(points) {
    const ways = points.slice(1).map((point, at) => [points[at], point]);
    const [a, b] = ways.reduce((best, way) => way[1][1] - way[0][1] > best[1][1] - best[0][1] ? way : best, ways[0]);
    return b[1] - a[1] < 16 ? null : [(a[0] + b[0]) / 2 + 4, (a[1] + b[1]) / 2 + 3];
  }

  /** Whether boxes overlap; rows of 40 units keep the search short. */
  class Taken {
    constructor() { this.rows = new Map(); }

    add(left, top, right, foot) {
      for (let row = Math.floor(top / 40); row <= Math.floor(foot / 40); row++) {
        this.rows.set(row, [...(this.rows.get(row) || []), [left, top, right, foot]]);
      }
    }

    has(left, top, right, foot) {
      for (let row = Math.floor(top / 40); row <= Math.floor(foot / 40); row++) {
        if ((this.rows.get(row) || []).some((box) => left < box[2] && box[0] < right && top < box[3] && box[1] < foot)) return true;
      }
      return false;
    }
  }

  /** What flows: where a path has a text of its own, and on all paths that leave their mark if `types` is given and
   *  there is room. */
  function drawLabels(scene, types) {
    const found = [], seen = new Set(), taken = new Taken();
    if (types) scene.items.filter((item) => !item.open).forEach((item) => taken.add(item.x, item.y, item.x + item.width, item.y + item.height));
    for (const path of scene.paths) {
      const content = path.label || (types && !seen.has(path.source) ? types(path) : '');
      if (!content) continue;
      const place = path.at ? [path.at[0], path.at[1] + 3] : besideOf(path.points);
      if (!place) continue;
      const width = content.length * LETTER.label, box = [place[0] - 2, place[1] - 9, place[0] + width, place[1] + 2];
      if (!path.at && taken.has(...box)) continue;     // another path of this value may have room
      taken.add(...box);
      seen.add(path.source);
      found.push(text(...place, content, path.at ? 'flow middle' : 'flow'));
    }
    return found;
  }

  /** Numbers of operands, where they do not arrive from left to right. */
  function drawOrders(paths) {
    const arriving = new Map();
    for (const path of paths) {
      if (path.order) arriving.set(path.target, [...(arriving.get(path.target) || []), path]);
    }
    return [...arriving.values()].flatMap((each) => {
      const sorted = each.slice().sort((a, b) => a.points.at(-1)[0] - b.points.at(-1)[0] || a.order - b.order);
      if (sorted.every((path, at) => at === 0 || sorted[at - 1].order <= path.order)) return [];
      return sorted.map((path, at) => text(path.points.at(-1)[0] + (at ? 5 : -11), path.points.at(-1)[1] - 4, String(path.order), 'order'));
    });
  }

  /** Draw the scene into `inner`; elements by key, and the paths that touch each key. */
  function draw(inner, scene, { tooltip, types = null }) {
    const open = scene.items.filter((item) => item.group && item.open);
    const layers = [open.map(drawOpen), scene.paths.map(drawPath), drawLabels(scene, types),
      scene.items.filter((item) => !item.open).map((item) => item.group ? drawClosed(item) : drawMark(item, tooltip)),
      open.map(drawTitle), drawOrders(scene.paths)];
    inner.replaceChildren(...layers.map((layer) => shape('g', {}, layer)));
    const elements = new Map(), touching = new Map();
    for (const each of inner.querySelectorAll('[data-key]')) {
      elements.set(each.dataset.key, [...(elements.get(each.dataset.key) || []), each]);
    }
    inner.querySelectorAll('.path').forEach((each) => {
      for (const key of [each.dataset.source, each.dataset.target]) {
        if (key) touching.set(key, [...(touching.get(key) || []), each]);
      }
    });
    return { elements, touching };
  }

  /** An svg element for pictures that move, with the arrowhead that they share. */
  function frame(label) {
    const inner = shape('g', { class: 'inner' });
    const svg = shape('svg', { class: 'frame', tabindex: '0', role: 'group', 'aria-label': label },
      shape('defs', {}, shape('marker', { id: 'arrowhead', viewBox: '0 0 8 8', refX: 7, refY: 4, markerWidth: 9,
        markerHeight: 9, markerUnits: 'userSpaceOnUse', orient: 'auto' }, shape('path', { class: 'arrowhead', d: 'M0 0.8L8 4L0 7.2z' }))), inner);
    return { svg, inner };
  }

  sgpage.draw = { draw, frame, body };
}
