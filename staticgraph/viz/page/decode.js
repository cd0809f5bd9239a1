'use strict';
// The data of the page as objects: rows under named columns become objects, numbers become the texts they stand for.
{
  const TEXTS = new Set(['op', 'kind', 'type', 'name', 'scope', 'detail', 'part', 'flops', 'bytes', 'role', 'label']);

  function reader(data) {
    const text = (number) => data.texts[number];
    const lines = (number) => data.lineGroups[number].map(text);
    const row = (columns, values) => Object.fromEntries(columns.map((column, at) => [column,
      column === 'lines' ? lines(values[at]) : TEXTS.has(column) ? text(values[at]) : values[at]]));
    return { text, lines, row };
  }

  /** Marks, arrows and paths as objects; `arrows` may be absent. */
  function readPicture(data, read, columns) {
    return {
      marks: data.marks.map((values, id) => ({ id, ...read.row(columns.mark, values) })),
      base: data.base,
      boxes: data.boxes.map(([number, x, y, width, height]) => ({ number, x, y, width, height })),
      paths: data.paths.map(([source, target, order, dashed, flat]) => ({ source, target, order,
        dashed: Boolean(dashed), points: flat.flatMap((value, at) => at % 2 ? [] : [[value, flat[at + 1]]]) })),
      arrows: (data.arrows || []).map(([source, target, order, folded]) => ({ source, target, order,
        folded: folded.map(read.text) })),
      width: data.size[0], height: data.size[1],
    };
  }

  function readStage(data, read, columns) {
    const nodes = data.nodes.map((values, id) => ({ id, users: [], results: [], status: data.status ? data.status[id] : '',
      ...read.row(columns.node, values) }));
    for (const node of nodes) {
      for (const input of new Set(node.inputs)) nodes[input].users.push(node.id);
    }
    for (const [name, node] of data.outputs) nodes[node].results.push(name === 'output' ? name : `output ${name}`);
    for (const [variable, node] of data.updates) nodes[node].results.push(`new value of ${nodes[variable].name || 'variable'}`);
    return { name: data.name, what: data.what, nodes, kernels: data.kernels, status: data.status || null,
      was: data.was || {}, ...readPicture(data, read, columns) };
  }

  /** The picture of a stage, with its nodes as the history numbers them. */
  function again(stages, name) {
    const found = stages.find((stage) => stage.name === name);
    return { ...found, marks: found.marks.map((mark) => ({ ...mark, node: found.nodes[mark.node].past })) };
  }

  const cost = ([nodes, flops, bytes]) => ({ nodes, flops, bytes });

  function readPast(data, read, columns, stages) {
    if (!data) return null;
    const nodes = data.nodes.map((values, id) => ({ id, ...read.row(data.columns, values) }));
    const passes = data.stages.map((stage) => ({ ...stage, cost: cost(stage.cost),
      picture: stage.picture && (stage.picture.like ? again(stages, stage.picture.like) : readPicture(stage.picture, read, columns)),
      firings: stage.firings.map(([rule, why, node, result, matched, added, lines, before, after]) => ({
        rule: read.text(rule), why: read.text(why), node, result, matched, added, lines: read.lines(lines),
        before: cost(before), after: cost(after) })) }));
    return { nodes, stages: passes };
  }

  function readSubject(data) {
    const read = reader(data);
    const program = data.program && { ...data.program,
      buffers: data.program.buffers.map((buffer) => ({ ...buffer, lines: read.lines(buffer.lines) })), steps: data.program.steps.map((step, id) => ({ id, ...step,
      lines: read.lines(step.lines), name: data.program.kernels[step.kernel].name,
      text: data.program.kernels[step.kernel].text })) };
    const stages = data.stages.map((stage) => readStage(stage, read, data.columns));
    return { ...data, program, stages, past: readPast(data.past, read, data.columns, stages) };
  }

  sgpage.decode = { readSubject, reader };
}
