'use strict';
// The page itself: tabs, colours, and the address that says what is shown.
{
  const { element, button, recall, remember } = sgpage.dom;
  const system = window.matchMedia ? matchMedia('(prefers-color-scheme: dark)') : null;

  /** Colours follow the system until the switch is used. */
  class Theme {
    constructor(given, changed) {
      Object.assign(this, { given: given === 'auto' ? '' : given, changed });
      this.switch = button('', 'change between light and dark colours', () => this.flip(), { id: 'theme' });
      if (system) system.addEventListener('change', () => { if (!recall('theme')) this.paint(); });
      this.paint();
    }

    get name() { return this.flipped || recall('theme') || this.given || (system && system.matches ? 'dark' : 'light'); }

    flip() {
      this.flipped = this.name === 'dark' ? 'light' : 'dark';
      remember('theme', this.flipped);
      this.paint();
    }

    paint() {
      document.documentElement.dataset.theme = this.name;
      this.switch.textContent = this.name === 'dark' ? 'light' : 'dark';
      this.changed();
    }
  }

  /** Change the address and show what it names; the same address again is shown again. */
  sgpage.go = (target) => {
    location.hash = target;
    sgpage.show();
  };

  function start() {
    const data = JSON.parse(document.getElementById('data').textContent);
    const tabs = sgpage.tabsOf(data);
    const bars = element('div', { class: 'bars' }), main = element('main', { id: 'main' });
    const theme = new Theme(data.theme || 'auto', () => tabs.forEach((tab) => tab.repaint && tab.repaint()));
    const list = element('nav', { class: 'tabs', 'aria-label': 'views' }, tabs.map((tab) => tab.link = element('a', {
      href: `#${tab.name}`, text: tab.title || tab.name, title: tab.what || '' })));
    document.getElementById('page').append(element('header', {}, element('h1', { text: data.title || 'staticgraph' }), list,
      theme.switch), bars, main);
    let shown = null, address = null;
    sgpage.show = () => {
      address = location.hash;
      const [name, ...rest] = location.hash.slice(1).split('/');
      const tab = tabs.find((each) => each.name === name) || tabs.find((each) => each.name === data.start) || tabs[0];
      if (shown !== tab) {
        tabs.forEach((each) => each === tab ? each.link.setAttribute('aria-current', 'page') : each.link.removeAttribute('aria-current'));
        if (!shown || shown.view !== tab.view) {
          bars.replaceChildren(...(tab.bar ? [tab.bar] : []));
          main.replaceChildren(...tab.view);
        }
        shown = tab;
      }
      tab.show(rest.join('/'));
    };
    window.addEventListener('hashchange', () => { if (location.hash !== address) sgpage.show(); });
    window.addEventListener('resize', () => shown && shown.repaint && shown.repaint());
    sgpage.show();
    document.documentElement.dataset.ready = 'yes';
  }

  /** The tabs of one subject: its stages, which share one view, then what else there is. */
  function graphTabs(data) {
    const subject = sgpage.decode.readSubject(data);
    const details = new sgpage.details.Details(subject), graph = new sgpage.GraphView(subject, details);
    const view = [graph.view, details.panel];
    const tabs = subject.stages.map((stage) => ({ name: stage.name, what: stage.what, bar: graph.bar, view,
      show: (target) => graph.show(stage, target), repaint: () => { graph.minimap.paint(); } }));
    if (subject.past) tabs.push(sgpage.history.tab(subject, details));
    if (subject.program) tabs.push(sgpage.memory.tab(subject, details));
    return tabs;
  }

  sgpage.tabsOf = (data) => data.kind === 'difference' ? sgpage.difference.tabs(data) : graphTabs(data);
  start();
}
