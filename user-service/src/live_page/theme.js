// The theme that was chosen: "light", "dark", or none, which follows the system.
(() => {
  const KEY = "live-theme";
  const CHOICES = ["system", "light", "dark"];
  const root = document.documentElement;
  const stored = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // Storage may be forbidden; the switch then holds until the page is closed.
    }
  };
  let choice = CHOICES.includes(stored()) ? stored() : "system";

  const apply = () => {
    if (choice === "system") delete root.dataset.theme;
    else root.dataset.theme = choice;
    const button = document.getElementById("theme-button");
    if (button) button.textContent = `Theme: ${choice}`;
  };

  apply();
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    document.getElementById("theme-button").addEventListener("click", () => {
      choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
      try {
        localStorage.setItem(KEY, choice);
      } catch {
        // As above.
      }
      apply();
    });
  });
})();
