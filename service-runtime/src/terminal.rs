//! Talking with an operator at a terminal.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};

/// Whether the person at the terminal says yes to `question`, before what can't be undone.
///
/// # Errors
/// If there is no terminal to ask at.
pub fn confirm(question: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("no terminal to prompt on; pass --yes");
    }
    print!("{question} [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// How far a command is on its way to `length`, with the time that is left: on standard error, and
/// only if that is a terminal.
///
/// # Panics
/// Never: the template is valid.
#[must_use]
pub fn progress_bar(length: u64) -> ProgressBar {
    let style = "{bar:40} {human_pos} of {human_len}, {per_sec}, {eta} left";
    let style = ProgressStyle::with_template(style).expect("a valid template");
    ProgressBar::new(length).with_style(style)
}
