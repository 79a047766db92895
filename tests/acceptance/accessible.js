// An object of functions, for accessible.py. The contrast is that of WCAG 2.2: 4.5, and 3 for large text; what is
// disabled is exempt.
({
  faults() {
    const faults = new Set();
    const parse = (text) => {
      const found = text.match(/[\d.]+/g).map(Number);
      return found.length > 3 ? found : [...found, 1];
    };
    const over = (top, under) => [...[0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])), 1];
    const ground = (node) => {
      const layers = [];
      for (let at = node; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
      return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
    };
    const linear = (one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    const luminance = (colour) => {
      const [r, g, b] = colour.map((one) => linear(one / 255));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let seen = 0;
    for (let text = walker.nextNode(); text; text = walker.nextNode()) {
      const node = text.parentElement;
      const said = text.data.trim().slice(0, 40);
      if (!said || !node.checkVisibility() || node.closest(":disabled, script")) continue;
      seen += 1;
      const style = getComputedStyle(node);
      const under = ground(node);
      const [low, high] = [luminance(over(parse(style.color), under)), luminance(under)].sort((a, b) => a - b);
      const contrast = (high + 0.05) / (low + 0.05);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      if (contrast < (large ? 3 : 4.5)) faults.add(`contrast ${contrast.toFixed(2)} of "${said}"`);
      if (size < 10) faults.add(`${size} px of "${said}"`);
    }
    if (!seen) faults.add("there is nothing to read");
    for (const node of document.querySelectorAll("a[href], button, input, select, img, progress, [role=img], [role=grid]")) {
      if (!node.checkVisibility()) continue;
      const labels = [...(node.labels || [])].map((label) => label.textContent);
      const names = [node.getAttribute("aria-label"), node.alt, node.textContent, node.title, ...labels];
      if (!names.some((name) => name && name.trim())) faults.add(`no name: ${node.outerHTML.slice(0, 80)}`);
    }
    const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
    for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.add(`twice: id ${id}`);
    if (!document.documentElement.lang || !document.title) faults.add("no language, or no title");
    return [...faults];
  },
  /** How many things the tab key has to reach. */
  stops() {
    return [...document.querySelectorAll("a[href], button, input, select, [tabindex='0']")].filter(
      (node) => node.checkVisibility() && !node.disabled && node.tabIndex >= 0,
    ).length;
  },
  /** Where the focus is, as a number that grows along the page; whether that is seen; whether it is one of the stops. */
  focused() {
    const node = document.activeElement;
    if (!node || node === document.body) return null;
    const { outlineStyle, outlineWidth } = getComputedStyle(node);
    return [
      [...document.querySelectorAll("*")].indexOf(node),
      outlineStyle !== "none" && parseFloat(outlineWidth) > 0,
      node.matches("a[href], button, input, select, [tabindex='0']"), // a box that scrolls is a stop, too
    ];
  },
});
