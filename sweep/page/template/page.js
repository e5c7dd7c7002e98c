// Light or dark: as the system has it, until the button is pressed.
(() => {
  "use strict";
  const root = document.documentElement;
  const button = document.getElementById("ground");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.ground ? root.dataset.ground === "dark" : system.matches);
  const tell = () => {
    button.textContent = dark() ? "Light" : "Dark";
    document.dispatchEvent(new Event("ground"));
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.ground = dark() ? "light" : "dark";
    tell();
  });
  system.addEventListener("change", tell);
  tell();
})();
