//! The inputs that fuzzing begins with: one file for each target, one input on each line, with
//! [escapes](crate::escape). Lines that begin with `#` are comments.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use crate::escape::{escape, unescape};

/// The inputs of a target.
///
/// # Panics
/// If it has no corpus.
#[must_use]
pub fn read(target: &str) -> Vec<Vec<u8>> {
    let path = path(target);
    let text = fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(unescape).collect()
}

/// Writes each input of a target into a file of its own, as `libFuzzer` reads them.
///
/// # Errors
/// If a file can't be written.
pub fn unpack(target: &str, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for (number, input) in read(target).iter().enumerate() {
        fs::write(directory.join(number.to_string()), input)?;
    }
    Ok(())
}

/// Adds the inputs in the files of `directory` to the corpus of a target.
///
/// # Errors
/// If a file can't be read or written.
pub fn pack(target: &str, directory: &Path) -> io::Result<()> {
    let known = read(target);
    let file = File::options().append(true).open(path(target))?;
    let mut file = BufWriter::new(file);
    for line in lines_of(directory)? {
        if !known.contains(&unescape(&line)) {
            writeln!(file, "{line}")?;
        }
    }
    file.flush()
}

/// The inputs in the files of `directory` as lines of a corpus, the shortest first.
///
/// # Errors
/// If a file can't be read.
pub fn lines_of(directory: &Path) -> io::Result<Vec<String>> {
    let files = fs::read_dir(directory)?.map(|entry| fs::read(entry?.path()));
    let mut inputs = files.collect::<io::Result<Vec<_>>>()?;
    inputs.sort_by_key(|input| (input.len(), input.clone()));
    inputs.dedup();
    Ok(inputs.iter().map(|input| to_line(input)).collect())
}

fn to_line(input: &[u8]) -> String {
    let line = escape(input);
    match line.strip_prefix('#') {
        Some(rest) => format!("\\x23{rest}"),
        None => line,
    }
}

fn path(target: &str) -> PathBuf {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus");
    Path::new(directory).join(format!("{target}.txt"))
}
