// Light or dark, as Airflow around this frame is; alone, as the system is.
"use strict";
(function () {
  const system = matchMedia("(prefers-color-scheme: dark)");
  function airflow() {
    try {
      return parent === window ? null : parent.document.documentElement;
    } catch {
      return null;
    }
  }
  function choose() {
    const root = airflow();
    const named = root && (root.classList.contains("dark") ? "dark" : root.classList.contains("light") ? "light" : null);
    const theme = named || (system.matches ? "dark" : "light");
    if (document.documentElement.dataset.theme !== theme) {
      document.documentElement.dataset.theme = theme;
      dispatchEvent(new Event("themechange"));
    }
  }
  choose();
  system.addEventListener("change", choose);
  const root = airflow();
  if (root) new MutationObserver(choose).observe(root, { attributes: true, attributeFilter: ["class"] });
})();
