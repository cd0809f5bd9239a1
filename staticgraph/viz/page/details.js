'use strict';
// The panel beside the picture: everything that is known of a node, of a kernel call or of a buffer, with links between.
//
// Every link is a fragment of the page's address (#fused/12, #fused/step3, #memory/buffer4, #history/7), so that a link
// to this file can point at what it is about.
{
  const { element } = sgpage.dom;

  const RESULTS = 20;

  const link = (href, text, kind = '') => element('a', { href, text, class: kind });

  /** A titled list; nothing where it has no entries. */
  function section(title, entries) {
    const shown = entries.filter(Boolean);
    return shown.length ? element('section', {}, element('h3', { text: title }),
      element('ul', {}, shown.map((entry) => element('li', {}, entry)))) : null;
  }

  function facts(rows) {
    const shown = rows.filter(([, value]) => value !== '' && value !== null && value !== undefined);
    return element('dl', {}, shown.flatMap(([name, value]) => [element('dt', { text: name }),
      element('dd', {}, value instanceof Node || Array.isArray(value) ? value : String(value))]));
  }

  const describe = (node) => `%${node.id} ${node.op}${node.name ? ` '${node.name}'` : ''}`;

  class Details {
    constructor(subject) {
      this.subject = subject;
      this.panel = element('aside', { class: 'details', 'aria-label': 'details', tabindex: '-1' });
    }

    show(...content) {
      this.panel.replaceChildren(...content.flat().filter(Boolean));
      this.panel.scrollTop = 0;
    }

    lines(lines) {
      return section(lines.length === 1 ? 'your line' : 'your lines', lines.map((line) => {
        const text = this.subject.sources[line];
        return [element('span', { class: 'line', text: line }), text ? element('code', { class: 'yours', text }) : null];
      }));
    }

    nodeLinks(title, stage, numbers) {
      return section(title, [...new Set(numbers)].map((number) => {
        const node = stage.nodes[number];
        return [link(`#${stage.name}/${number}`, describe(node)), element('span', { class: 'type', text: ` ${node.type}` }),
          node.op === 'constant' ? ` ${node.detail}` : null];
      }));
    }

    stepLinks(title, steps, stage = 'fused') {
      const { program } = this.subject;
      return program && section(title, steps.map((step) => [link(`#${stage}/step${step}`, `step ${step}  ${program.steps[step].name}`)]));
    }

    cost(flops, bytes) {
      return [flops !== '0' ? ['flops', flops] : null, bytes !== '0' ? ['bytes', bytes] : null].filter(Boolean);
    }

    /** The picture as a whole, before anything is chosen. */
    overview(stage) {
      const { subject } = this, { program } = subject, ops = new Map();
      for (const node of stage.nodes) ops.set(node.op, (ops.get(node.op) || 0) + 1);
      const most = [...ops].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, 12);
      this.show(element('h2', { text: `${stage.name} graph` }), element('p', { class: 'quiet', text: stage.what }),
        facts([['nodes', stage.nodes.length], ['kernel calls', program && program.steps.length],
          ['kernels', program && program.kernels.length], ['device', program && program.device],
          ['arena', program && `${program.arena} bytes`]]),
        subject.remarks.map((text) => element('p', { class: 'remark', text })),
        section('results', stage.nodes.filter((node) => node.results.length).slice(0, RESULTS).map((node) => [
          link(`#${stage.name}/${node.id}`, node.results.join(', ')), element('span', { class: 'type', text: ` ${node.type}` })])),
        section('most frequent operations', most.map(([op, count]) => [`${count} × ${op}`])),
        program && (stage.name === 'fused' || stage.name === 'program') ? this.stepLinks('kernel calls', program.steps.map((step) => step.id), stage.name) : null,
        section('options', subject.options.map(([name, value]) => [`${name}: ${value}`])));
    }

    node(stage, node) {
      const { program } = this.subject;
      const chips = [node.part, node.status, ...node.results].filter(Boolean).map((text) => element('span', { class: `chip ${text}`, text }));
      this.show(element('h2', { text: describe(node) }), chips.length ? element('p', { class: 'chips' }, chips) : null,
        element('p', { class: 'type', text: node.type }),
        facts([['name', node.name], ['scope', node.scope], ['kind', node.kind], ['attributes', node.detail], ['was', stage.was[node.id] || ''],
          ...this.cost(node.flops, node.bytes)]),
        this.lines(node.lines), this.nodeLinks('inputs', stage, node.inputs), this.nodeLinks('users', stage, node.users),
        this.nodeLinks(node.part === 'backward' ? 'is the gradient side of' : 'gradient partners', stage, node.partners),
        node.op === 'buffer' ? this.buffers('buffer', [node.buffer]) : null, this.pastOf(node), this.elsewhere(stage, node),
        program && node.steps.length ? this.stepLinks('computed by', node.steps, stage.name === 'primitive' ? 'fused' : stage.name) : null,
        program && node.steps.length ? this.kernelSource(program.steps[node.steps[0]]) : null);
    }

    /** The same node in the other graphs: those that are one node of the history. */
    elsewhere(stage, node) {
      if (node.past < 0) return null;
      return section('in other stages', this.subject.stages.filter((other) => other !== stage).map((other) => {
        const found = other.nodes.find((each) => each.past === node.past);
        return found ? [link(`#${other.name}/${found.id}`, `${other.name}: ${describe(found)}`)] : null;
      }));
    }

    pastOf(node) {
      if (node.past < 0 || !sgpage.history) return null;
      const found = sgpage.history.touching(this.subject.past, node.past);
      return section('what was done to it', found.slice(0, 30).map(({ number, moment, made }) => [
        link(`#history/${number}`, moment.firing.rule), element('span', { class: 'quiet', text: ` ${made ? 'made it' : 'took it'} in ${moment.stage.name}` })]));
    }

    kernelSource(step, open = false) {
      const { text } = step;
      const all = element('details', { open }, element('summary', { text: `source of ${step.name}` }));
      const fill = () => { if (all.open && !all.querySelector('pre')) all.append(sgpage.highlight(text)); };
      all.addEventListener('toggle', fill);
      fill();
      return all;
    }

    kernel(stage, step) {
      const { program } = this.subject, kernel = program.kernels[step.kernel];
      const others = program.steps.filter((each) => each.kernel === step.kernel && each !== step).map((each) => each.id);
      const chain = program.chains.find(([first, count]) => step.id >= first && step.id < first + count);
      const shown = stage.name === 'program' ? this.subject.stages.find((each) => each.name === 'fused') : stage;
      const nodes = shown.nodes.filter((node) => node.steps.includes(step.id)).map((node) => node.id);
      this.show(element('h2', { text: `step ${step.id}  ${step.name}` }),
        element('p', { class: 'chips' }, element('span', { class: 'chip', text: step.commit ? 'writes variables' : 'computes' }),
          kernel.library ? element('span', { class: 'chip', text: `library: ${kernel.library}` }) : null),
        element('p', { class: 'type', text: step.title }),
        facts([['iterations', step.extent], ...this.cost(step.flops, step.bytes), ['launch', kernel.launch],
          ['chain', chain ? `steps ${chain[0]} to ${chain[0] + chain[1] - 1}, ${chain[2]} rows` : '']]),
        this.lines(step.lines), this.buffers('reads', step.reads.filter((each) => !step.writes.includes(each))),
        this.buffers('writes', step.writes), this.boundaries(step, stage), this.kernelSource(step, true),
        this.nodeLinks('computes', shown, nodes), this.stepLinks('same kernel', others, stage.name));
    }

    /** Why what it reads and what reads it is no part of it. */
    boundaries(step, stage) {
      const { program } = this.subject;
      return section('why it is a kernel of its own', program.boundaries.filter(([first, second]) => first === step.id || second === step.id)
        .slice(0, 30).map(([first, second, value, line, reason, rows]) => {
          const other = program.steps[first === step.id ? second : first];
          return [first === step.id ? `${value} goes to ` : `${value} comes from `, link(`#${stage.name}/step${other.id}`, `step ${other.id}  ${other.name}`),
            `: ${reason}`, rows ? `; by rows: ${rows}` : null, line ? element('span', { class: 'line', text: ` ${line}` }) : null];
        }));
    }

    buffers(title, numbers) {
      const { program } = this.subject;
      return section(title, numbers.map((number) => [link(`#memory/buffer${number}`, program.buffers[number].name),
        element('span', { class: 'type', text: ` ${program.buffers[number].type}` }),
        element('span', { class: 'quiet', text: ` ${program.buffers[number].place}` })]));
    }

    buffer(number) {
      const { program } = this.subject, buffer = program.buffers[number];
      this.show(element('h2', { text: buffer.name }), element('p', { class: 'type', text: buffer.type }),
        facts([['place', buffer.place], ['offset', buffer.place === 'arena' ? buffer.offset : ''], ['bytes', buffer.bytes],
          ['role', buffer.role === buffer.place ? '' : buffer.role]]), this.lines(buffer.lines),
        this.stepLinks('written by', program.steps.filter((step) => step.writes.includes(number)).map((step) => step.id)),
        this.stepLinks('read by', program.steps.filter((step) => step.reads.includes(number) && !step.writes.includes(number))
          .map((step) => step.id)));
    }
  }

  sgpage.details = { Details, section, facts, link, describe };
}
