//! Whether everybody can use it.

use super::Shown;

/// Text that is too faint, by the formula of WCAG 2: 4.5, or 3 for large text. Text of controls that
/// cannot be used is exempt.
const FAINT: &str = r#"(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((it) => it / 255).map((it) => (it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (node) => {
    for (let it = node; it; it = it.parentElement) {
      const colour = rgba(getComputedStyle(it).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const faint = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((it) => it.nodeType === 3 && it.textContent.trim() !== "");
    const isInput = node.matches("input:not([type=checkbox])");
    if ((!own && !isInput) || !node.checkVisibility() || node.closest(":disabled, .unseen, .skip")) continue;
    const style = getComputedStyle(node);
    const [a, b] = [luminance(rgba(style.color)), luminance(ground(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const needed = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    if (ratio < needed) faint.push(`${node.tagName} ${node.id || node.className}: ${ratio.toFixed(2)}`);
  }
  return faint.join(", ");
})()"#;

#[tokio::test]
async fn text_stands_out_in_both_themes_and_at_any_width() {
    let mut shown = Shown::new().await;
    shown.create("Ada", "ada@example.com").await;
    shown.both_sides_have(1).await;
    shown.stack.publish("no event").await;
    let failing = "!document.querySelector('#failing').hidden && document.querySelector('#verdict').dataset.level === 'bad'";
    shown.browser.shows("what fails", failing).await;
    for (scheme, dark) in [("light", "false"), ("dark", "true")] {
        shown.browser.prefer("prefers-color-scheme", scheme).await;
        let applied = format!("matchMedia('(prefers-color-scheme: dark)').matches === {dark}");
        shown.browser.shows("the theme", &applied).await;
        assert_eq!(shown.browser.evaluate(FAINT).await, "", "{scheme}");
    }
    for width in [1440, 900, 390] {
        shown.browser.resize(width, 900).await;
        let fits = "document.documentElement.scrollWidth <= window.innerWidth";
        shown
            .browser
            .shows("no line wider than the page", fits)
            .await;
    }
    shown.is_clean().await;
}

/// Whether anything moves by itself.
const MOVES: &str = "[...document.querySelectorAll('*')].some((it) => [null, '::before', '::after'].some((part) => {
    const style = getComputedStyle(it, part);
    return style.animationName !== 'none' || style.transitionDuration !== '0s';
}))";

#[tokio::test]
async fn nothing_moves_for_whom_asks_for_reduced_motion() {
    let mut shown = Shown::new().await;
    shown.create("Ada", "ada@example.com").await;
    shown.both_sides_have(1).await;
    let in_copy = "document.querySelector('#event-rows tr[data-place=copy]') !== null";
    shown.browser.shows("the event in the copy", in_copy).await;
    for (motion, expected) in [("no-preference", true), ("reduce", false)] {
        shown.browser.prefer("prefers-reduced-motion", motion).await;
        let applied = format!("matchMedia('(prefers-reduced-motion: {motion})').matches");
        shown.browser.shows("the preference", &applied).await;
        assert_eq!(shown.browser.evaluate(MOVES).await, expected, "{motion}");
    }
    shown.is_clean().await;
}

#[tokio::test]
async fn every_control_has_a_name_and_the_switch_changes_the_theme() {
    const CONTROLS: [&str; 5] = ["button", "textbox", "checkbox", "link", "image"];
    let mut shown = Shown::new().await;
    shown.create("Ada", "ada@example.com").await;
    shown.both_sides_have(1).await;
    shown.stack.publish("no event").await;
    let failing = "!document.querySelector('#failing').hidden";
    shown.browser.shows("what fails", failing).await;
    let tree = shown.browser.accessibility_tree().await;
    let is_control = |role: &str| CONTROLS.contains(&role);
    let controls = tree.iter().filter(|(role, _)| is_control(role));
    let names: Vec<_> = controls.map(|(_, name)| name.trim()).collect();
    assert!(names.len() > 15, "{tree:?}");
    assert!(names.iter().all(|name| !name.is_empty()), "{tree:?}");
    for landmark in ["main", "banner", "contentinfo", "status"] {
        assert!(
            tree.iter().any(|(role, _)| role == landmark),
            "no {landmark}: {tree:?}"
        );
    }

    let ground = "getComputedStyle(document.body).backgroundColor";
    shown.browser.prefer("prefers-color-scheme", "light").await;
    let light = shown.browser.evaluate(ground).await;
    for _ in 0..2 {
        shown.browser.click("#theme-button").await;
    }
    assert_eq!(shown.browser.text_of("#theme-button").await, "Theme: dark");
    assert_ne!(shown.browser.evaluate(ground).await, light);
    shown.is_clean().await;
}
