//! Asking an operator before what can't be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::bail;

/// Whether the person at the terminal says yes to `question`.
///
/// # Errors
/// If there is no terminal to ask at.
pub fn confirm(question: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("this asks first; without a terminal, say --yes");
    }
    print!("{question} [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
