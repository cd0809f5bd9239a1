'use strict';
// A search field with its number of matches; Enter goes to the next one, Shift+Enter to the one before.
{
  const { element, button } = sgpage.dom;

  /** What a search looks at: operation, type, name, scope, attributes, lines and kernels. */
  function wordsOf(stage, node) {
    const kernels = stage.name === 'program' ? [] : node.steps.map((step) => stage.kernels[step] || '');
    return [`%${node.id}`, node.op, node.type, node.name, node.scope, node.detail, node.part, node.status, ...node.lines, ...kernels,
      ...node.results].join('\n').toLowerCase();
  }

  class Search {
    /** `find(words)` gives the matches, `show(match)` goes to one, `mark(matches)` shows all of them. */
    constructor({ find, show, mark }) {
      Object.assign(this, { find, show, mark, matches: [], at: -1 });
      this.field = element('input', { type: 'search', placeholder: 'find op, name, line, kernel', 'aria-label': 'find',
        id: 'find', on: { input: () => this.change(), keydown: (event) => this.key(event) } });
      this.count = element('span', { class: 'count', role: 'status' });
      this.bar = element('div', { class: 'search', role: 'search' }, this.field, this.count,
        button('‹', 'match before (Shift+Enter)', () => this.go(-1)), button('›', 'next match (Enter)', () => this.go(1)));
    }

    change() {
      const words = this.field.value.toLowerCase().split(/\s+/).filter(Boolean);
      this.matches = words.length ? this.find(words) : [];
      this.at = -1;
      this.mark(this.matches);
      this.tell();
    }

    tell() {
      const { length } = this.matches;
      this.count.textContent = !this.field.value.trim() ? '' : length ? `${this.at < 0 ? '' : `${this.at + 1} of `}${length}` : 'none';
    }

    go(way) {
      if (!this.matches.length) return;
      this.at = (this.at + way + this.matches.length + (this.at < 0 && way < 0 ? 1 : 0)) % this.matches.length;
      this.tell();
      this.show(this.matches[this.at]);
    }

    key(event) {
      if (event.key === 'Enter') this.go(event.shiftKey ? -1 : 1);
      else if (event.key === 'Escape') { this.field.value = ''; this.change(); }
      else return;
      event.preventDefault();
    }
  }

  sgpage.search = { Search, wordsOf };
}
