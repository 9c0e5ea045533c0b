//! Asks at a terminal: a question on standard error, a line from standard input. What may not be seen is read without
//! echo and is in no other buffer than the one that is wiped.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd;

use nix::sys::termios::{self, LocalFlags, SetArg, Termios};
use nix::unistd::read;
use zeroize::Zeroizing;

/// Longest answer, bytes: what a terminal hands over in one line. Source: termios(3), canonical mode.
const LINE: usize = 4096;

/// Whether a person can be asked.
pub(super) fn is_there() -> bool {
    io::stdin().is_terminal()
}

/// What is answered, without the spaces around it; `None`: the input ended.
pub(super) fn ask(prompt: &str) -> io::Result<Option<String>> {
    show(prompt)?;
    let line = line()?;
    Ok(line.map(|line| String::from_utf8_lossy(&line).trim().to_owned()))
}

/// The same, without showing it.
pub(super) fn ask_hidden(prompt: &str) -> io::Result<Option<Zeroizing<String>>> {
    // Before it is asked: what was typed earlier is thrown away then, and an answer must not be.
    let quiet = Quiet::begin()?;
    show(prompt)?;
    let line = line()?;
    drop(quiet);
    show("\n")?;
    let Some(line) = line else { return Ok(None) };
    let text = std::str::from_utf8(&line).map_err(|_| io::Error::other("what was typed is not text"))?;
    Ok(Some(Zeroizing::new(text.trim().to_owned())))
}

/// Tells something between questions.
pub(super) fn show(text: &str) -> io::Result<()> {
    let mut out = io::stderr().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// One line, without its end, never by way of the standard library's buffer.
fn line() -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(LINE));
    let mut byte = Zeroizing::new([0]);
    loop {
        match read(io::stdin().as_fd(), &mut *byte) {
            Ok(0) if line.is_empty() => return Ok(None),
            Ok(0) => return Ok(Some(line)),
            Ok(_) if byte[0] == b'\n' => return Ok(Some(line)),
            Ok(_) if line.len() == LINE => return Err(io::Error::other("the line is too long")),
            Ok(_) => line.push(byte[0]),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The terminal's echo is off while this lives.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> io::Result<Quiet> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut without = before.clone();
        without.local_flags.remove(LocalFlags::ECHO);
        termios::tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &without)?;
        Ok(Quiet(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that went away needs no echo.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}
