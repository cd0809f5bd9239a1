'use strict';
// Python text with light highlighting. Kernels are Python: comments, texts, numbers and words of the language.
{
  const { element } = sgpage.dom;
  const TOKEN = /(#[^\n]*)|("""[^]*?"""|'''[^]*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|\b(\d[\w.]*)|\b([A-Za-z_]\w*)\b/g;
  const WORDS = new Set(('and as assert break class continue def del elif else except False finally for from global if '
    + 'import in is lambda None nonlocal not or pass raise return True try while with yield').split(' '));

  function highlight(text) {
    const code = element('code');
    let done = 0;
    for (const found of text.matchAll(TOKEN)) {
      const kind = found[1] ? 'comment' : found[2] ? 'text' : found[3] ? 'number' : WORDS.has(found[4]) ? 'word' : '';
      if (!kind) continue;
      code.append(text.slice(done, found.index), element('span', { class: `py-${kind}`, text: found[0] }));
      done = found.index + found[0].length;
    }
    code.append(text.slice(done));
    return element('pre', { class: 'source', tabindex: '0' }, code);
  }

  sgpage.highlight = highlight;
}
