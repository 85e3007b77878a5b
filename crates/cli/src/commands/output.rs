//! Where archives go: a file that is whole or not there, or standard output.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use crate::error::Error;

/// Lets `make` write to the file, or to standard output unless that is a terminal. A file that was there is replaced
/// when the new one is whole.
pub(super) fn write(
    path: Option<&Path>,
    make: impl FnOnce(&mut dyn Write) -> Result<(), engine::Error>,
) -> Result<(), Error> {
    let Some(path) = path else {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            return Err(Error::Usage(
                "refuses to write an archive to a terminal; use -o FILE or redirect it".to_owned(),
            ));
        }
        let mut out = BufWriter::with_capacity(256 << 10, stdout.lock());
        make(&mut out)?;
        return out.flush().map_err(Error::Output);
    };
    let fail = |source| Error::WriteFile { path: path.to_owned(), source };
    // Beside it, because only there a rename is one step; devices and pipes are written as they are.
    if path.exists() && !path.is_file() {
        let mut out = BufWriter::new(File::options().write(true).open(path).map_err(fail)?);
        make(&mut out)?;
        return out.flush().map_err(fail);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let new = path.with_file_name(name);
    let file = File::options().write(true).create_new(true).open(&new).map_err(fail)?;
    let mut out = BufWriter::with_capacity(256 << 10, file);
    let made = make(&mut out).map_err(Error::from).and_then(|()| out.flush().map_err(fail));
    drop(out);
    let made = made.and_then(|()| std::fs::rename(&new, path).map_err(fail));
    if made.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(&new);
    }
    made
}
