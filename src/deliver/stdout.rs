//! Lines on standard output. They count as accepted when the kernel took the last byte of them.
//!
//! Whoever reads may be slow or stop: a write waits for room in small steps, so that giving up (the agent
//! stops) never hangs. What was written of a line by then stays; should the agent go on, it begins a new
//! line first, so that half a record is never merged with the next.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::lines::Lines;
use super::sender::{Outcome, Reason, Sender};

/// Bytes written at once: a pipe that has room for any has room for these (PIPE_BUF; pipe(7)), so a write
/// after a poll does not block.
const STEP: usize = 4096;
/// Milliseconds that a write which waits for room overlooks that it was given up.
const GLANCE: u16 = 1000;

/// Standard output, or any other stream of bytes.
pub struct Stream {
    pipe: Arc<Mutex<Pipe>>,
}

impl Stream {
    /// Standard output. It is not buffered here, so nobody else may print there meanwhile.
    ///
    /// # Errors
    /// When the file descriptor cannot be duplicated.
    pub fn stdout() -> io::Result<Stream> {
        Ok(Stream::new(io::stdout().as_fd().try_clone_to_owned()?))
    }

    /// Anything with a descriptor to write to.
    pub fn new(to: OwnedFd) -> Stream {
        Stream { pipe: Arc::new(Mutex::new(Pipe { to: to.into(), torn: false })) }
    }
}

impl Sender for Stream {
    async fn send(&mut self, lines: Lines) -> Outcome {
        let lines = lines.bytes();
        let pipe = self.pipe.clone();
        let wanted = Arc::new(());
        let still = Arc::downgrade(&wanted);
        let written = tokio::task::spawn_blocking(move || {
            pipe.lock().unwrap_or_else(PoisonError::into_inner).write(&lines, &still)
        });
        match written.await {
            Ok(Ok(())) => Outcome::Accepted,
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Outcome::Hold(
                "whoever read standard output has closed it: start the reader again, and the agent with it"
                    .into(),
            ),
            Ok(Err(error)) => Outcome::Retry {
                reason: Reason::Storage,
                text: format!("cannot write to standard output ({error})"),
                after: None,
            },
            Err(_) => Outcome::Retry {
                reason: Reason::Storage,
                text: "the writing thread ended early".into(),
                after: None,
            },
        }
    }
}

struct Pipe {
    to: File,
    /// The last byte written was not a line break.
    torn: bool,
}

impl Pipe {
    fn write(&mut self, lines: &[u8], still: &Weak<()>) -> io::Result<()> {
        if self.torn {
            self.write_all(b"\n", still)?;
        }
        self.write_all(lines, still)?;
        self.to.flush()
    }

    fn write_all(&mut self, mut bytes: &[u8], still: &Weak<()>) -> io::Result<()> {
        while !bytes.is_empty() {
            if still.strong_count() == 0 {
                return Err(io::Error::other("given up"));
            }
            let mut fds = [PollFd::new(self.to.as_fd(), PollFlags::POLLOUT)];
            match poll(&mut fds, PollTimeout::from(GLANCE)) {
                Ok(0) | Err(nix::Error::EINTR) => continue,
                // an error on the descriptor shows in the write
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            match self.to.write(&bytes[..bytes.len().min(STEP)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.torn = bytes[count - 1] != b'\n';
                    bytes = &bytes[count..];
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::io::Read as _;

    fn pipe() -> (Stream, io::PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        (Stream::new(writer.into()), reader)
    }

    #[tokio::test]
    async fn lines_larger_than_a_pipe_arrive_whole_and_in_order() {
        let (mut stream, mut reader) = pipe();
        let lines: String = (0..40_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        assert!(lines.len() > 400_000);
        let reading = std::thread::spawn(move || {
            let mut all = String::new();
            reader.read_to_string(&mut all).map(|_| all)
        });
        let (first, second) = lines.split_at(lines.len() / 2);
        for part in [first, second] {
            assert_eq!(stream.send(Lines::from(part)).await, Outcome::Accepted);
        }
        drop(stream);
        // half a line at the end of the first part: the second begins a new one
        let torn = if first.ends_with('\n') { "" } else { "\n" };
        assert_eq!(reading.join().unwrap().unwrap(), format!("{first}{torn}{second}"));
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_held_and_said() {
        let (mut stream, reader) = pipe();
        drop(reader);
        let Outcome::Hold(text) = stream.send(Lines::from("x\n")).await else { panic!() };
        assert!(text.contains("standard output"), "{text}");
    }

    #[tokio::test]
    async fn a_write_that_was_given_up_ends_and_its_torn_line_stays_alone() {
        let (mut stream, mut reader) = pipe();
        let long = Bytes::from([vec![b'a'; 300_000], vec![b'\n']].concat());
        {
            let mut writing = std::pin::pin!(stream.send(Lines::one(long)));
            // the pipe is full and nobody reads: give up once the writer has begun
            let begun = tokio::task::spawn_blocking(move || {
                let mut first = [0; 1];
                reader.read_exact(&mut first).map(|()| reader)
            });
            tokio::select! {
                outcome = &mut writing => panic!("{outcome:?}"),
                back = begun => reader = back.unwrap().unwrap(),
            }
        }
        let sending = tokio::spawn(async move { stream.send(Lines::from("next\n")).await });
        let all = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            // waits until the given-up write has let go, then drains
            let mut block = [0; 4096];
            while !all.ends_with(b"next\n") {
                let count = reader.read(&mut block).unwrap();
                all.extend_from_slice(&block[..count]);
            }
            all
        });
        assert_eq!(sending.await.unwrap(), Outcome::Accepted);
        let all = all.await.unwrap();
        let cut = all.iter().filter(|&&byte| byte == b'a').count();
        assert!(cut < 299_999, "given up, though the reader went on");
        assert!(all.ends_with(b"a\nnext\n"), "a line of its own");
    }
}
