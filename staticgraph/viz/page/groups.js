'use strict';
// Which marks are drawn together: a tree of groups whose leaves are marks.
//
// By kernel there is one group a step; many of them are put together by part and scope, as nodes are. By scope groups nest
// as name scopes do; in a training graph the backward and the update part have a group of their own, in which a gradient
// has the scope of what it is the gradient of. What still holds very many marks is divided by the user's first line, and
// what holds very many groups into runs of them, so that graphs without any scopes can be folded too.
{
  const MANY = 60, MANY_KERNELS = 40, RUN = 24;

  /** A group: `key` is its path and stays the same as long as the data do; `box` is the number of the kernel or chain
   *  that it is, `step` that of the kernel call, -1 for neither. */
  function group(key, title, parent) {
    return { key, title, parent, groups: new Map(), marks: [], count: 0, box: -1, step: -1 };
  }

  function inside(parent, name, title = name) {
    let found = parent.groups.get(name);
    if (!found) parent.groups.set(name, found = group(`${parent.key}/${name}`, title, parent));
    return found;
  }

  function scopeOf(stage, node) {
    if (node.scope || node.part === '' || node.part === 'forward') return node.scope;
    const partner = node.partners.map((each) => stage.nodes[each]).find((each) => each.scope);
    return partner ? partner.scope : '';
  }

  function pathOf(stage, mark) {
    const scope = scopeOf(stage, stage.nodes[mark.node]);
    const names = scope ? scope.split('/') : [];
    return mark.part === 'backward' || mark.part === 'update' ? [mark.part, ...names] : names;
  }

  /** The path that most marks of each kernel have; those without a scope are only asked where no other has one. */
  function pathsOfKernels(stage, marks) {
    const votes = new Map();
    for (const mark of marks) {
      if (mark.kernel < 0 || mark.role !== 'op') continue;
      if (!votes.has(mark.kernel)) votes.set(mark.kernel, new Map());
      const counts = votes.get(mark.kernel), path = JSON.stringify(pathOf(stage, mark));
      counts.set(path, (counts.get(path) || 0) + (scopeOf(stage, stage.nodes[mark.node]) ? 1000 : 1));
    }
    return new Map([...votes].map(([kernel, counts]) => [kernel, JSON.parse([...counts].sort((a, b) => b[1] - a[1])[0][0])]));
  }

  /** Very many groups side by side, in runs of some: kernels by their steps, scopes by their names. */
  function byRuns(home) {
    const parts = ['/backward', '/update'], all = [...home.groups.values()].filter((each) => !parts.includes(each.key));
    for (const chosen of [all.filter((each) => each.box >= 0), all.filter((each) => each.box < 0)]) {
      if (chosen.length <= MANY) continue;
      for (let at = 0; at < chosen.length; at += RUN) {
        const run = chosen.slice(at, at + RUN), first = run[0], last = run.at(-1);
        const made = inside(home, `run ${first.key}`, first.step >= 0 ? `steps ${first.step} to ${last.step}` : `${first.title} … ${last.title}`);
        for (const each of run) {
          made.groups.set(each.key, each);
          each.parent = made;
        }
      }
      const moved = new Set(chosen);
      for (const [name, each] of home.groups) if (moved.has(each)) home.groups.delete(name);
    }
  }

  function byLine(stage, home) {
    if (home.marks.length <= MANY) return;
    const marks = home.marks;
    home.marks = [];
    for (const mark of marks) {
      const line = stage.nodes[mark.node].lines[0];
      (line && mark.role === 'op' ? inside(home, `line ${line}`, line) : home).marks.push(mark);
    }
    for (const [name, each] of home.groups) {
      if (name.startsWith('line ') && each.marks.length === 1) {     // a box around one mark says nothing
        home.marks.push(...each.marks);
        home.groups.delete(name);
      }
    }
  }

  function walk(root) {
    const all = [root];
    for (let at = 0; at < all.length; at++) all.push(...all[at].groups.values());
    return all;
  }

  /** The step that each mark of a program belongs to: its own, that which wrote it, or that which reads it first. */
  function stepsOfMarks(stage) {
    const { nodes, marks } = stage, step = new Map();
    const own = (mark) => nodes[mark.node].steps[0] ?? nodes[nodes[mark.node].inputs[0]]?.steps[0];
    for (const mark of marks) if (own(mark) !== undefined) step.set(mark.id, own(mark));
    for (const { source, target } of stage.arrows) if (!step.has(source)) step.set(source, step.get(target) ?? 0);
    return step;
  }

  /** A program: its chains, and runs of steps around them where there are many. */
  function putSteps(stage, marks, root) {
    const steps = stepsOfMarks(stage), first = new Map(), most = Math.max(0, ...steps.values());
    for (const mark of marks) first.set(mark.kernel, Math.min(first.get(mark.kernel) ?? Infinity, steps.get(mark.id) ?? 0));
    for (const mark of marks) {
      const run = RUN * Math.floor((mark.kernel >= 0 ? first.get(mark.kernel) : steps.get(mark.id) ?? 0) / RUN);
      let home = most > MANY_KERNELS ? inside(root, `run ${run}`, `from step ${run}`) : root;
      if (mark.kernel >= 0) {
        home = inside(home, `chain ${mark.kernel}`, stage.kernels[mark.kernel]);
        home.box = mark.kernel;
      }
      home.marks.push(mark);
    }
  }

  function put(stage, way, marks, root) {
    if (way === 'chain') return putSteps(stage, marks, root);
    const kernels = way === 'kernel' ? new Set(marks.filter((mark) => mark.kernel >= 0).map((mark) => mark.kernel)) : new Set();
    const paths = kernels.size > MANY_KERNELS ? pathsOfKernels(stage, marks) : new Map();
    for (const mark of marks) {
      let home = root;
      if (way === 'scope' || (way === 'kernel' && mark.kernel < 0 && paths.size)) {
        for (const name of pathOf(stage, mark)) home = inside(home, name);
      } else if (way === 'kernel' && mark.kernel >= 0) {
        for (const name of paths.get(mark.kernel) || []) home = inside(home, name);
        home = inside(home, `step ${mark.kernel}`, stage.kernels[mark.kernel]);
        home.box = home.step = mark.kernel;
      }
      home.marks.push(mark);
    }
  }

  /** The tree for a way of grouping: "kernel" | "chain" | "scope" | "none"; `home` maps each mark's number to its group. */
  function grouped(stage, way) {
    const root = group('', '', null);
    put(stage, way, stage.marks.slice(0, stage.base), root);
    if (way === 'scope') walk(root).forEach((each) => byLine(stage, each));
    if (way !== 'chain') walk(root).forEach(byRuns);
    const home = new Map(), groups = walk(root);
    for (const each of groups.slice().reverse()) {
      each.count += each.marks.length;
      if (each.parent) each.parent.count += each.count;
      for (const mark of each.marks) home.set(mark.id, each);
    }
    return { root, home, groups: groups.slice(1), byKey: new Map(groups.slice(1).map((each) => [each.key, each])) };
  }

  /** All groups around a mark or group, innermost first, without the root. */
  function around(home) {
    const found = [];
    for (let each = home; each && each.parent; each = each.parent) found.push(each);
    return found;
  }

  sgpage.groups = { grouped, around };
}
